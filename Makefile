# make train: the main job. make test: lint, types, fast tests; make thorough, slow: the others. All set everything up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TESTS ?= not thorough and not slow

.PHONY: train test check thorough slow clean
train: $(VENV)/ready
	$(BIN)/anomap-train

test: check
	$(BIN)/pytest -n 2 -m "$(TESTS)"

thorough: $(VENV)/ready
	$(BIN)/pytest -n 2 -m "thorough and not slow"

slow: $(VENV)/ready
	$(BIN)/pytest -n 2 -m slow

check: $(VENV)/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

# pip, not uv: it finds CPU builds of torch that a machine may hold. Made anew when the requirements change.
$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable ".[elpv,pretrained,onnx,tune,sweep,dev]"
	touch $@

clean:
	rm -rf $(VENV) dist
