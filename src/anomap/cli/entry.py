"""Console scripts: `anomap-train` is `train()`, and so is `scripts/train.py`."""

from functools import partial
from importlib import import_module

from anomap.cli.runner import run

train = partial(run, "train")
evaluate = partial(run, "evaluate")
predict = partial(run, "predict")
export = partial(run, "export")
preview = partial(run, "preview")
tune = partial(run, "tune")


def report() -> None:
    """anomap-report: arguments, not overrides of a configuration."""
    import_module("anomap.commands.report").main()
