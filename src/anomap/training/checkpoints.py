"""The training's own checkpoint: how and when it is written, and whether it is the one to go on from."""

# Lightning calls hooks by position; those here name the arguments they use.
# pyright: reportIncompatibleMethodOverride=false

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins import TorchCheckpointIO

from anomap.config import flat
from anomap.detection.checkpoint import read, save
from anomap.training import steps
from anomap.training.stopping import Stop, changing

SECTION = "run"  # of a checkpoint: the configuration of the run that wrote it


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoints through anomap's writer and reader: whole or not at all, no code inside."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        save(path, checkpoint)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read(path)


class LastCheckpoint(Checkpoint):
    """Writes the last state, never the best on anything: in every pause, and after the step in which a signal came.

    The checkpoint holds the configuration of the whole run, plain.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], stop: Stop) -> None:
        self.path, self.config, self.stop = path, dict(config), stop

    def on_train_start(self, *_: Any) -> None:
        self.stop.listen()  # Lightning's own handler would stop without a checkpoint

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if not trainer.is_last_batch and steps.done(trainer) < steps.total(trainer):  # or the epoch's end does it
            self._save(trainer, pl_module, pause=False)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer, pl_module, steps.pauses(trainer))

    def _save(self, trainer: pl.Trainer, pl_module: Any, pause: bool) -> None:
        """In a pause or where a signal asked to stop; called after the module's own hook."""
        stopped = self.stop.check(trainer, 0 if pause else steps.done(trainer))
        if stopped or pause:
            pl_module.check_finite()
            trainer.save_checkpoint(self.path)
        if stopped:
            raise self.stop.stopped()

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint[SECTION] = self.config


def made_by(path: Path) -> dict[str, Any] | None:
    """The configuration of the run that wrote a training checkpoint; None if there is no file, or no training in it."""
    return read(path).get(SECTION) if path.is_file() else None


def goes_on(path: Path, config: Mapping[str, Any]) -> bool:
    """Whether `path` holds training of this configuration, apart from what may change; never for an empty one."""

    def decisive(config: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in flat(config).items() if changing(key) is None and key != "resume"}

    found = made_by(path)
    return bool(found) and decisive(found) == decisive(config)
