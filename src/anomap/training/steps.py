"""How long a training lasts and where it pauses, counted in steps: a step is one batch, with both optimisers' turns.

Everything here follows from the trainer's own counters: a resumed training pauses where an uninterrupted one would.
"""

# Lightning calls hooks by position; those here name the arguments they use.
# pyright: reportIncompatibleMethodOverride=false

import logging
import math
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from anomap.errors import UserError

BETWEEN_PAUSES = 50  # steps at least from one checkpoint, monitoring and logging of losses to the next
FEW = 50  # steps: fewer leave a network about as it was drawn

log = logging.getLogger(__name__)


def done(trainer: pl.Trainer) -> int:
    """Steps taken so far, those before a resume included."""
    return trainer.global_step // 2  # Lightning counts the steps of both optimisers


def batches(trainer: pl.Trainer) -> int:
    """Steps of an epoch."""
    if math.isfinite(trainer.num_training_batches):
        return max(1, int(trainer.num_training_batches))
    # Lightning has not set up its loader yet, and must not before it has read a checkpoint
    count = len(trainer.datamodule.train_dataloader())  # pyright: ignore[reportAttributeAccessIssue]
    limit = trainer.limit_train_batches
    return max(1, min(count, limit) if isinstance(limit, int) else int(count * limit))


def total(trainer: pl.Trainer) -> int:
    """Steps of the whole training."""
    callbacks: list[pl.Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    given = [callback.steps for callback in callbacks if isinstance(callback, Pace) and callback.steps]
    return min([*given, (trainer.max_epochs or 1) * batches(trainer)])


def pauses(trainer: pl.Trainer) -> bool:
    """Whether the current epoch ends with a pause: the last, and every one that completes `BETWEEN_PAUSES` steps."""
    return (trainer.current_epoch + 1) % _epochs_between(trainer) == 0 or in_last_epoch(trainer)


def in_last_epoch(trainer: pl.Trainer) -> bool:
    """Whether the training ends with the current epoch, or within it."""
    return (trainer.current_epoch + 1) * batches(trainer) >= total(trainer)


def _epochs_between(trainer: pl.Trainer) -> int:
    return math.ceil(BETWEEN_PAUSES / batches(trainer))


class Pace(pl.Callback):
    """Sets the length of a training, and when it is monitored: in the last epoch in any case.

    Of the `trainer` group `max_epochs` wins over `steps`, those of the `model` group, and `check_val_every_n_epoch` over
    pauses. UserError if `steps` are needed and wrong. With Lightning's `max_steps` a resumed training would not go on at
    the right epoch.
    """

    def __init__(self, trainer: Mapping[str, Any], steps: int | None) -> None:
        by_steps = trainer.get("max_epochs") is None
        if by_steps and (type(steps) is not int or steps < 1):
            raise UserError(f"model.steps={steps}: give a whole number of at least 1, or trainer.max_epochs=N")
        self.steps = steps if by_steps else None
        self.every: int | None = trainer.get("check_val_every_n_epoch")
        # arguments of Lightning's Trainer, which knows no null
        epochs = -1 if self.steps else trainer["max_epochs"]
        self.limits = {"max_epochs": epochs, "check_val_every_n_epoch": self.every or 1}

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self.steps:  # the last epoch may be incomplete
            trainer.fit_loop.max_epochs = math.ceil(self.steps / batches(trainer))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Warn if the training is too short to mean anything."""
        self.on_train_epoch_start(trainer, pl_module)  # Lightning starts no epoch that is resumed in its middle
        steps, each = total(trainer), batches(trainer)
        if steps < FEW:
            log.warning(
                "only %d training steps (%d epochs of %d batches): too few to learn much; at least %d are advisable: "
                "set trainer.max_epochs=%d, or leave it out and set model.steps",
                *(steps, math.ceil(steps / each), each, FEW, math.ceil(FEW / each)),
            )

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Decide whether this epoch is monitored."""
        every = self.every or _epochs_between(trainer)
        trainer.check_val_every_n_epoch = 1 if in_last_epoch(trainer) else every

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """After the last step, in the middle of an epoch too, let Lightning monitor and end."""
        if done(trainer) >= total(trainer):
            trainer.should_stop = True
