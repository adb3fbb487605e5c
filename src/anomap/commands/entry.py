"""Console scripts, one line each: `anomap-train` is `train()`, and so is `scripts/train.py`."""

from anomap.commands.runner import run


def train() -> None:
    """anomap-train."""
    run("train")


def preview() -> None:
    """anomap-preview."""
    run("preview")
