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
from pytorch_lightning.callbacks import LearningRateMonitor, RichProgressBar

from anomap.config import build
from anomap.data.datamodule import AnomalyDataModule
from anomap.errors import UserError
from anomap.objectives.base import AdversarialObjective
from anomap.runs.folder import RunFolder
from anomap.training.checkpoint_io import AtomicCheckpointIO
from anomap.training.checkpoints import LastCheckpoint, goes_on
from anomap.training.module import AdversarialTraining
from anomap.training.monitoring import Monitoring
from anomap.training.processes import SharedStatistics, check_processes, trainer_arguments
from anomap.training.stopping import Stop

log = logging.getLogger(__name__)

# Lightning's own chatter: devices found, tips, and a warning about the frozen and averaged copies, which belong in eval mode
for _name in ("pytorch_lightning", "lightning_fabric"):
    logging.getLogger(_name).setLevel(logging.WARNING)
warnings.filterwarnings("ignore", "Found .* module.s. in eval mode", module="pytorch_lightning")
warnings.filterwarnings(
    "ignore", "`broadcast_buffers` is deprecated"
)  # by newer versions of torch, for what older lack
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
    """Time and images of training alone, without monitoring and checkpoints; over all parts of a run that was resumed."""

    def __init__(self) -> None:
        self.seconds, self.images = 0.0, 0
        self._since: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """Up to now, for the checkpoint."""
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return {"seconds": self.seconds + running, "images": self.images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.seconds, self.images = state_dict["seconds"], state_dict["images"]

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
        self.images += len(batch["image"]) * trainer.world_size  # shares differ by one at most
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
    config: Mapping[str, Any] | None = None,
    callbacks: Sequence[pl.Callback] = (),
) -> Fit:
    """Train `objective` for a fixed number of epochs, from where the run's checkpoint left off if this very run wrote one.

    Nothing that it computes depends on random numbers drawn before it, and none that are drawn after it depend on how much
    it had left to do.

    Args:
        objective: the method; its closed-form statistics are already fitted.
        data: ready to serve.
        model: the `model` group: `optimizer`, `ema_decay`.
        trainer: the `trainer` group, arguments of Lightning's Trainer.
        logger: the `logger` group; empty for none.
        run: where checkpoint and logs go.
        config: of the whole run, by which its checkpoint is known again.
        callbacks: further ones.

    Raises:
        Stopped: a signal came; the checkpoint is written.
        UserError: the trainer's options are impossible, the training diverged, or the disk is full.
    """
    config = config or {}
    module = AdversarialTraining(
        objective, ema_decay=model["ema_decay"], seed=torch.initial_seed(), **model["optimizer"]
    )
    module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    stop, stopwatch = Stop(), Stopwatch()
    last = LastCheckpoint(run.last_checkpoint, config, stop)
    used: list[pl.Callback] = [*callbacks, SharedStatistics(), stopwatch, Monitoring(), last]
    shown = sys.stderr.isatty()
    used.append(RichProgressBar() if shown else EpochLines())
    tensorboard = build({**logger, "save_dir": str(run.tensorboard)}) if logger else False
    if logger:
        used.append(LearningRateMonitor("epoch"))
    try:
        lightning = pl.Trainer(
            **trainer_arguments(trainer),
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
    if lightning.world_size > 1:
        check_processes(lightning, len(data.train))
    start = run.last_checkpoint if goes_on(run.last_checkpoint, config) else None
    with stop, torch.random.fork_rng([]):
        lightning.fit(module, data, ckpt_path=start)
        if stop.check(lightning):  # it came when there was nothing left to do
            raise stop.stopped()
    return Fit(module, lightning, stopwatch.seconds, stopwatch.images)
