"""One trial: train as anomap-train does, without the held-out augmentation and the test set, and compute the objective."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl

from anomap.config import build, check_seed
from anomap.data.anomaly_data import AnomalyData
from anomap.data.build import build_data
from anomap.data.samples import Scan
from anomap.data.settle import settle, with_data
from anomap.errors import UserError
from anomap.objectives.base import AdversarialObjective
from anomap.runs.folder import RunFolder
from anomap.training import steps
from anomap.training.train import train_method
from anomap.tuning.held_out import HeldOut, without

Report = Callable[[float, int], None]  # value, epoch; raises to stop the trial


class Watch(pl.Callback):
    """Evaluates the averaged weights in a pause after each `every` epochs, and after the last."""

    def __init__(self, evaluate: Callable[[Any], float], report: Report, every: int) -> None:
        self.evaluate, self.report, self.every = evaluate, report, every
        self.value: float | None = None  # the last one

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After the module's own hook, which stops a training that diverged."""
        epoch = trainer.current_epoch + 1
        if steps.in_last_epoch(trainer) or (epoch % self.every == 0 and steps.pauses(trainer)):
            self.value = self.evaluate(pl_module.ema.objective)  # pyright: ignore[reportAttributeAccessIssue]
            self.report(self.value, epoch)


class Trials:
    """Trains trials one after the other; images are decoded again only when the data settings change.

    A trial's files lie in the study's `folder` while it runs. `held_out` is that group, plain; `every` the epochs between
    two values of the objective.
    """

    def __init__(self, folder: Path, held_out: Mapping[str, Any], every: int) -> None:
        self.folder, self.held_out, self.every = folder, held_out, every
        self._made: tuple[str, AnomalyData, HeldOut] | None = None
        self._known: tuple[str, dict[str, Any], Scan] | None = None

    def run(self, config: dict[str, Any], report: Report) -> float:
        """Train with a plain configuration of anomap-train; the objective's value. UserError if that is wrong or diverges."""
        if config["data"].get("contamination"):
            raise UserError(
                "data.contamination: anomap-tune learns from all images; list those to leave out in data.exclude"
            )
        check_seed(config["seed"])
        config, found = self._settled(config)
        pl.seed_everything(config["seed"], verbose=False)
        objective = build(config["model"]["objective"])
        augmentation = build(without(config["augmentation"], self.held_out))
        data, held_out = self._images(found, config["data"], config["seed"], objective.stride)
        needed = isinstance(objective, AdversarialObjective) and objective.uses_augmentation
        data.augmentation = augmentation if needed else None
        trainer = {**config["trainer"], "limit_val_batches": 0}  # monitoring would read the test set
        quiet = {**config, "trainer": trainer, "logger": {}}
        watch = Watch(held_out.auroc, report, self.every)
        with TemporaryDirectory(prefix=".trial-", dir=self.folder) as place:
            objective, _ = train_method(objective, data, quiet, RunFolder(place), [watch])
        return held_out.auroc(objective) if watch.value is None else watch.value  # None: a method without epochs

    def _settled(self, config: dict[str, Any]) -> tuple[dict[str, Any], Scan]:
        key = json.dumps(config["data"], sort_keys=True)
        if self._known is None or self._known[0] != key:
            settled, found = settle({"data": config["data"]})
            self._known = key, settled["data"], found
        _, data, found = self._known
        return with_data(config, data), found

    def _images(self, found: Scan, config: Mapping[str, Any], seed: int, stride: int) -> tuple[AnomalyData, HeldOut]:
        key = json.dumps([config, seed, stride], sort_keys=True)
        if self._made is None or self._made[0] != key:
            data = build_data(config, None, seed, stride)
            data.layout = replace(found, test=[])  # no test image is opened
            data.setup()
            self._made = key, data, HeldOut(data, self.held_out)
        return self._made[1:]
