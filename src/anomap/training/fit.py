"""Training a method from a plain configuration: one Lightning fit around it."""

import logging
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint, RichProgressBar

from anomap.config import build
from anomap.data.datamodule import AnomalyDataModule
from anomap.errors import UserError
from anomap.objectives.base import AdversarialObjective
from anomap.results import RunFolder
from anomap.training.checkpoint_io import AtomicCheckpointIO
from anomap.training.module import AdversarialTraining
from anomap.training.monitoring import Monitoring

log = logging.getLogger(__name__)

# Lightning's own chatter: devices found, tips, and a warning about the frozen and averaged copies, which belong in eval mode
logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", "Found .* module.s. in eval mode", module="pytorch_lightning")
warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated", category=FutureWarning)
warnings.filterwarnings(
    "ignore", ".*does not have many workers", module="pytorch_lightning"
)  # batches are indexed, not made


@dataclass
class Fit:
    """What a fit leaves behind."""

    module: AdversarialTraining
    trainer: pl.Trainer
    seconds: float  # of training steps, monitoring left out
    images: int  # training images seen, an image and its augmented copy counted once

    @property
    def objective(self) -> AdversarialObjective:
        """The method with the averaged weights, which score."""
        return self.module.ema.objective


class Stopwatch(pl.Callback):
    """Time and images of training alone, without monitoring and checkpoints."""

    def __init__(self) -> None:
        self.seconds, self.images = 0.0, 0
        self._since: float | None = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start at the first batch, then run through data loading."""
        if self._since is None:
            self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch; stop at the last of an epoch."""
        self.images += len(batch["image"])
        if trainer.is_last_batch and self._since is not None:
            self.seconds += time.perf_counter() - self._since
            self._since = None


class EpochLines(pl.Callback):
    """One line per epoch where no progress bar is shown, so that a log file tells how it went."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Losses, and the AUROC where it was monitored."""
        shown = {
            name: float(value) for name, value in trainer.callback_metrics.items() if name.endswith(("_loss", "auroc"))
        }
        text = "  ".join(f"{name.split('/')[-1]} {value:.4f}" for name, value in shown.items())
        log.info("epoch %d of %s  %s", trainer.current_epoch + 1, trainer.max_epochs, text)


def fit(
    objective: AdversarialObjective,
    data: AnomalyDataModule,
    model: Mapping[str, Any],
    trainer: Mapping[str, Any],
    logger: Mapping[str, Any],
    run: RunFolder,
    callbacks: Sequence[pl.Callback] = (),
) -> Fit:
    """Train `objective` for a fixed number of epochs.

    Args:
        objective: the method; its closed-form statistics are already fitted.
        data: ready to serve.
        model: the `model` group: `optimizer`, `ema_decay`.
        trainer: the `trainer` group, arguments of Lightning's Trainer.
        logger: the `logger` group; empty for none.
        run: where checkpoint and logs go.
        callbacks: further ones.
    """
    module = AdversarialTraining(objective, ema_decay=model["ema_decay"], **model["optimizer"])
    module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    stopwatch = Stopwatch()
    used: list[pl.Callback] = [
        *callbacks,
        stopwatch,
        Monitoring(),
        ModelCheckpoint(
            run.last_checkpoint.parent,
            filename=run.last_checkpoint.stem,
            monitor=None,  # the last weights, never the best on anything
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        ),
    ]
    shown = sys.stderr.isatty()
    used.append(RichProgressBar() if shown else EpochLines())
    tensorboard = build({**logger, "save_dir": str(run.tensorboard)}) if logger else False
    if logger:
        used.append(LearningRateMonitor("epoch"))
    try:
        lightning = pl.Trainer(
            **trainer,
            default_root_dir=run.path,
            logger=tensorboard,
            callbacks=used,
            plugins=[AtomicCheckpointIO()],
            enable_progress_bar=shown,
            enable_model_summary=False,
            num_sanity_val_steps=0,  # two batches of one class say nothing
            use_distributed_sampler=False,  # the data's own samplers know the ranks
            log_every_n_steps=1,
        )
    except (
        MisconfigurationException,
        TypeError,
        ValueError,
    ) as error:  # an unknown accelerator, precision, number of devices
        raise UserError(f"trainer: {str(error).splitlines()[0]}") from error
    lightning.fit(module, data)
    return Fit(module, lightning, stopwatch.seconds, stopwatch.images)
