"""Console scripts, one line each: `anomap-train` is `train()`, and so is `scripts/train.py`."""

from importlib import import_module

from anomap.cli.runner import run


def train() -> None:
    """anomap-train."""
    run("train")


def evaluate() -> None:
    """anomap-evaluate."""
    run("evaluate")


def predict() -> None:
    """anomap-predict."""
    run("predict")


def export() -> None:
    """anomap-export."""
    run("export")


def preview() -> None:
    """anomap-preview."""
    run("preview")


def tune() -> None:
    """anomap-tune."""
    run("tune")


def report() -> None:
    """anomap-report: arguments, not overrides, so Hydra is not needed."""
    import_module("anomap.commands.report").main()
