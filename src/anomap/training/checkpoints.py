"""The training's own checkpoint: when it is written, and whether it is the one to go on from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from anomap.detection.checkpoint import read
from anomap.training import steps
from anomap.training.resumable import decisive
from anomap.training.stopping import Stop

SECTION = "run"  # of a checkpoint: the configuration of the run that wrote it


class LastCheckpoint(Checkpoint):
    """Writes `last.ckpt` in every pause, and after the step in which a signal asked to stop.

    It is always the last state, never the best on anything.

    Args:
        path: of the checkpoint.
        config: of the whole run, plain; put into the checkpoint.
        stop: tells whether to stop.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], stop: Stop) -> None:
        self.path, self.config, self.stop = path, dict(config), stop

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals back from Lightning, whose handler would stop without a checkpoint."""
        self.stop.listen()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop inside an epoch."""
        ends = trainer.is_last_batch or steps.done(trainer) >= steps.total(trainer)
        if not ends and self.stop.check(trainer, steps.done(trainer)):
            self._save(trainer, pl_module)
            raise self.stop.stopped()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the pause; Lightning calls this after the module's own hook."""
        pause = steps.pauses(trainer)
        stopped = self.stop.check(trainer, 0 if pause else steps.done(trainer))
        if stopped or pause:
            self._save(trainer, pl_module)
        if stopped:
            raise self.stop.stopped()

    def _save(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        pl_module.check_finite()  # pyright: ignore[reportCallIssue]
        trainer.save_checkpoint(self.path)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say whose checkpoint this is."""
        checkpoint[SECTION] = self.config


def made_by(path: Path) -> dict[str, Any] | None:
    """The configuration of the run that wrote a training checkpoint; None if there is no file, or no training in it."""
    return read(path).get(SECTION) if path.is_file() else None


def goes_on(path: Path, config: Mapping[str, Any]) -> bool:
    """Whether `path` holds training of this very configuration; never for an empty one."""
    found = made_by(path)
    return bool(found) and decisive(found) == decisive(config)
