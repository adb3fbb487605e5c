"""What is said and timed while a model trains."""

# Lightning calls hooks by position; those here name the arguments they use.
# pyright: reportIncompatibleMethodOverride=false

import logging
import sys
import time
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console
from rich.progress import MofNCompleteColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from anomap.training import steps
from anomap.training.monitoring import AUROC
from anomap.training.said import SECONDS

log = logging.getLogger(__name__)


class Progress(pl.Callback):
    """A bar over all steps on a terminal; elsewhere a line every ten seconds, so that a log file tells how it goes.

    Reading the losses waits for the device, so they are read only when they are shown.
    """

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._said = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._said = time.monotonic()
        if sys.stderr.isatty() and trainer.is_global_zero:
            columns = (*Bar.get_default_columns()[:3], MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._bar.add_task("training", total=steps.total(trainer), completed=steps.done(trainer))
            self._bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=steps.done(trainer))
        if time.monotonic() - self._said >= (1 if self._bar else SECONDS):
            self._say(trainer, pl_module.mean_losses())

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say the AUROC while it is fresh."""
        if AUROC in trainer.callback_metrics and not self._bar:
            self._say(trainer, {AUROC: float(trainer.callback_metrics[AUROC])})

    def on_train_end(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def on_exception(self, *_: Any) -> None:
        self.on_train_end()  # or the terminal would be left without a cursor

    def _say(self, trainer: pl.Trainer, values: dict[str, float]) -> None:
        self._said = time.monotonic()
        shown = {name: value for name, value in values.items() if name == AUROC or name.endswith("/total")}
        text = "  ".join(f"{n.removesuffix('/total').replace('/', ' ')} {value:.4f}" for n, value in shown.items())
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=text)
        else:
            log.info("step %d of %d  %s", steps.done(trainer), steps.total(trainer), text)


class Stopwatch(pl.Callback):
    """Time and images of training alone, without monitoring and checkpoints; over all parts of a run that was resumed.

    It waits for the device when it stops, since what is still queued there is training too.
    """

    def __init__(self) -> None:
        self.seconds, self.images = 0.0, 0
        self._since: float | None = None

    def state_dict(self) -> dict[str, Any]:
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return {"seconds": self.seconds + running, "images": self.images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds, self.images = state_dict["seconds"], state_dict["images"]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Start at the first batch, then run through data loading."""
        if self._since is None:
            self._since = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self.images += len(batch["image"]) * trainer.world_size  # shares differ by one at most

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop(pl_module.device)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if steps.pauses(trainer):
            self._stop(pl_module.device)

    def _stop(self, device: torch.device) -> None:
        if self._since is not None:
            if device.type != "cpu":
                torch.accelerator.synchronize(device)
            self.seconds += time.perf_counter() - self._since
            self._since = None
