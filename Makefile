# make train: the main job. make test: lint, types, tests. Both set everything up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: train test check slow clean
train: $(VENV)/ready
	$(BIN)/anomap-train

test: check
	$(BIN)/pytest -n 2 -m "not slow"

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
