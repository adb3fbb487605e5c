"""Training in several processes (DDP): each prepares all of the data and trains on its share of each batch.

All hold the same weights and statistics after every step; after the training, rank 0 goes on alone. BatchNorm normalises
by the share of its own process (SyncBatchNorm does not run on CPUs; on GPUs `+trainer.sync_batchnorm=true` switches it on).
"""

# Lightning calls hooks by position; those here name the arguments they use.
# pyright: reportIncompatibleMethodOverride=false

import os
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import distributed
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from anomap.errors import UserError

# set by Lightning in the process that starts the others, and read by it as "somebody else starts them"
_LAUNCHED = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def trainer_arguments(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for Lightning's Trainer, in which `strategy: ddp` is one that fits two networks trained in turns."""
    if not str(trainer.get("strategy", "auto")).startswith("ddp"):
        return dict(trainer)
    # a step leaves the other network without gradients; processes may score different numbers of batches
    return {**trainer, "strategy": DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)}


def check_processes(trainer: pl.Trainer, images: int) -> None:
    """Raise UserError for several processes without `strategy=ddp`, or more of them than training images."""
    strategy, count = trainer.strategy, trainer.world_size
    if count > 1 and not isinstance(strategy, DDPStrategy):
        raise UserError(f"trainer.strategy={strategy.strategy_name}: several processes train by ddp only")  # pyright: ignore[reportAttributeAccessIssue]
    if count > 1 and not strategy._ddp_kwargs.get("find_unused_parameters"):  # pyright: ignore[reportAttributeAccessIssue]
        raise UserError(f"trainer.devices are {count} here: set +trainer.strategy=ddp, or trainer.devices=1")
    if count > images:
        raise UserError(f"{count} processes for {images} training images: use fewer (trainer.devices)")


class SharedStatistics(pl.Callback):
    """Keeps what is no parameter, and so not DDP's business, equal in all processes."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Rank 0's closed-form statistics for all, to the last bit."""
        if trainer.world_size > 1:
            for buffer in pl_module.buffers():
                values = buffer.contiguous()  # whatever order they lie in here
                distributed.broadcast(values, 0)
                buffer.copy_(values)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """The mean of BatchNorm's running statistics, of the networks and of their averaged copies."""
        if trainer.world_size == 1:
            return
        norms = [part for part in pl_module.modules() if isinstance(part, _BatchNorm)]
        buffers = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var) if buffer is not None]
        if buffers:
            means = torch.cat([buffer.flatten() for buffer in buffers])
            distributed.all_reduce(means)
            means /= trainer.world_size
            for buffer, mean in zip(buffers, means.split([buffer.numel() for buffer in buffers]), strict=True):
                buffer.copy_(mean.view_as(buffer))


def go_on_alone() -> None:
    """End every process but rank 0; called by all of them, when nothing is left that they share."""
    if not distributed.is_available() or not distributed.is_initialized():
        return
    distributed.barrier()
    rank = distributed.get_rank()
    distributed.destroy_process_group()
    if rank != 0:
        raise SystemExit(0)
    for name in _LAUNCHED:
        os.environ.pop(name, None)
