"""One trial: train as anomap-train does, without the held-out augmentation and the test set, and compute the objective."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl

from anomap.config import build
from anomap.data.build import build_datamodule
from anomap.data.checks import check_image_size
from anomap.data.datamodule import AnomalyDataModule
from anomap.detection.checkpoint import image_size
from anomap.objectives.base import AdversarialObjective
from anomap.runs.folder import RunFolder
from anomap.training import steps
from anomap.training.train import train_method
from anomap.tuning.held_out import HeldOut, NormalsOnly, without

Report = Callable[[float, int], None]  # value, epoch; raises to stop the trial


class Watch(pl.Callback):
    """Evaluates the averaged weights in pauses after every so many epochs, and after the last.

    Args:
        evaluate: method -> value.
        report: takes value and epoch, and may raise.
        every: epochs between two values.
    """

    def __init__(self, evaluate: Callable[[Any], float], report: Report, every: int) -> None:
        self.evaluate, self.report, self.every = evaluate, report, every

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After the module's own hook, which stops a training that diverged."""
        epoch = trainer.current_epoch + 1
        if steps.in_last_epoch(trainer) or (epoch % self.every == 0 and steps.pauses(trainer)):
            self.report(self.evaluate(pl_module.ema.objective), epoch)  # pyright: ignore[reportAttributeAccessIssue]


class Trials:
    """Trains trials one after the other; images are decoded again only when the data settings change.

    Args:
        folder: of the study; a trial's files lie there while it runs.
        held_out: the `held_out` group, plain.
        every: epochs between two values of the objective.
    """

    def __init__(self, folder: Path, held_out: Mapping[str, Any], every: int) -> None:
        self.folder, self.held_out, self.every = folder, held_out, every
        self._made: tuple[str, AnomalyDataModule, HeldOut] | None = None

    def run(self, config: dict[str, Any], report: Report) -> float:
        """Train and return the objective's value.

        Args:
            config: the whole configuration of anomap-train, plain.
            report: takes each intermediate value and its epoch, and may raise to stop the trial.

        Raises:
            UserError: the configuration is wrong, or the training diverged.
        """
        pl.seed_everything(config["seed"], verbose=False)
        objective = build(config["model"]["objective"])
        size = check_image_size(image_size(config), objective.stride)
        augmentation = build(without(config["augmentation"], self.held_out))
        data, held_out = self._images(config["data"], config["seed"], objective.stride)
        needed = isinstance(objective, AdversarialObjective) and objective.uses_augmentation
        data.augmentation = augmentation if needed else None
        trainer = {**config["trainer"], "limit_val_batches": 0}  # monitoring would read the test set
        quiet = {**config, "trainer": trainer, "logger": {}}
        values: dict[int, float] = {}

        def evaluate(method: Any) -> float:
            return held_out.auroc(method, size)

        def keep(value: float, epoch: int) -> None:
            values[epoch] = value
            report(value, epoch)

        with TemporaryDirectory(prefix=".trial-", dir=self.folder) as place:
            watch = Watch(evaluate, keep, self.every)
            objective, stages = train_method(objective, data, quiet, RunFolder(place), [watch])
        return values[max(values)] if values and stages else evaluate(objective)

    def _images(self, config: Mapping[str, Any], seed: int, stride: int) -> tuple[AnomalyDataModule, HeldOut]:
        key = json.dumps([config, seed, stride], sort_keys=True)
        if self._made is None or self._made[0] != key:
            data = build_datamodule(config, None, seed, stride)
            data.layout = NormalsOnly(data.layout)
            data.setup()
            self._made = key, data, HeldOut(data, self.held_out)
        return self._made[1:]
