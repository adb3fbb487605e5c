"""The loggers and callbacks that a configuration names: `logger=[tensorboard,csv]`, `callbacks=mine`.

Each group holds name -> node, so that several options go together. In a node's strings `{folder}` stands for the folder
of the run (of the stage, in a training of two), `{tensorboard}` for that of TensorBoard's files (of both stages in one) and
`{run}` for its name: the last two parts of that path.
"""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from anomap.config import build, flat, targets
from anomap.errors import UserError
from anomap.runs.folder import RunFolder
from anomap.training.hyperparameters import log_hyperparameters

PACKAGES = {"WandbLogger": "wandb", "MLFlowLogger": "mlflow"}  # class -> what it needs: module and extra of one name
# both would report their own use over the network
SILENT = {"WANDB_ERROR_REPORTING": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}


def check_loggers(config: Mapping[str, Any]) -> None:
    """Raise UserError if the package of a logger is not installed."""
    for target in targets(config["logger"]):
        package = PACKAGES.get(target.rpartition(".")[2])
        if package is not None and importlib.util.find_spec(package) is None:
            raise UserError(f'logger={package} is not installed: pip install "anomap[{package}]"')


def make_loggers(config: Mapping[str, Any], run: RunFolder, logs: Path | None = None) -> list[Logger]:
    """The loggers of one stage, whose TensorBoard files go to `logs`, if not to the run's `tensorboard/`.

    Others than TensorBoard get the run's configuration, with keys as on the command line.
    """
    for name, value in SILENT.items():
        os.environ.setdefault(name, value)
    loggers = _make(config["logger"], run, logs)
    settings = {key: value for key, value in flat(config).items() if not key.endswith("_target_")}
    for logger in loggers:
        if not isinstance(logger, TensorBoardLogger):  # its own come with the results: `log_hyperparameters`
            logger.log_hyperparams(settings)
    return loggers


def make_callbacks(config: Mapping[str, Any], run: RunFolder) -> list[pl.Callback]:
    """The user's callbacks, new ones for every stage."""
    return _make(config.get("callbacks", {}), run)


def log_results(loggers: Sequence[Logger], run: RunFolder, metrics: Mapping[str, Any], step: int = 0) -> None:
    """Give every logger what the run reached on images, pixels and the test set, and estimates, named as in `metrics.json`."""
    results = {
        key: value for key, value in metrics.items() if key.startswith(("image_", "pixel_", "test_", "estimate_"))
    }
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            log_hyperparameters(logger, run, metrics, step)
        else:
            logger.log_metrics({key: value for key, value in results.items() if isinstance(value, float)}, step)
            logger.finalize("success")


def close(loggers: Sequence[Logger]) -> None:
    """End what would otherwise stay open until the process ends, as in a sweep of many jobs."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def _make(group: Mapping[str, Any], run: RunFolder, logs: Path | None = None) -> list[Any]:
    places = {"{folder}": str(run.path), "{tensorboard}": str(logs or run.tensorboard)}
    places |= {"{run}": "/".join(run.path.absolute().parts[-2:])}

    def placed(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: placed(below) for key, below in value.items()}
        if isinstance(value, str):
            for name, place in places.items():
                value = value.replace(name, place)
        return value

    return [build(placed(node)) for node in group.values()]
