"""Console scripts, one line each: `anomap-train` is `train()`, and so is `scripts/train.py`."""

from anomap.commands.runner import run


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


def benchmark() -> None:
    """anomap-benchmark."""
    run("benchmark")


def report() -> None:
    """anomap-report."""
    from anomap.commands.report import main  # the others need not load it

    main()
