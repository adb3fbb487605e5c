"""Console scripts: `anomap-train` is `train()`, and so is `scripts/train.py`. Each imports only what it needs."""

from functools import partial
from importlib import import_module


def _run(name: str) -> None:
    import_module("anomap.cli.runner").run(name)


train = partial(_run, "train")
evaluate = partial(_run, "evaluate")
predict = partial(_run, "predict")
export = partial(_run, "export")
preview = partial(_run, "preview")
tune = partial(_run, "tune")
check = partial(_run, "check")
calibrate = partial(_run, "calibrate")


def report() -> None:
    """anomap-report: arguments, not overrides of a configuration."""
    import_module("anomap.commands.report").main()
