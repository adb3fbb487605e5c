"""Training in several processes (DDP): what they share, and how all but one end.

Every process makes the same preparations on all of the data, trains on its share of each batch, and holds the same weights
and statistics after every step. When training is over, rank 0 goes on alone: calibration, test and files are those of a
single process.

BatchNorm normalises by the share of its own process (SyncBatchNorm does not run on CPUs; on GPUs `+trainer.sync_batchnorm=true`
switches it on). Its running statistics are the means over the processes.
"""

import os
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch import distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm  # pyright: ignore[reportPrivateUsage]

from anomap.errors import UserError

# set by Lightning in the process that starts the others, and read by it as "somebody else starts them"
_LAUNCHED = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def trainer_arguments(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for Lightning's Trainer, in which `strategy: ddp` is one that fits two networks trained in turns.

    Each optimiser step leaves the other network's parameters without gradients, hence `find_unused_parameters`. Buffers are
    not broadcast in each forward pass: processes may score different numbers of batches, and would wait for each other.
    """
    arguments = dict(trainer)
    if str(arguments.get("strategy", "auto")).startswith("ddp"):
        arguments["strategy"] = DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
    return arguments


def check_processes(trainer: pl.Trainer, images: int) -> None:
    """Refuse what cannot be shared.

    Raises:
        UserError: several processes without `strategy=ddp`, or more of them than training images.
    """
    if trainer.world_size > 1 and not isinstance(trainer.strategy, DDPStrategy):
        raise UserError(f"trainer.strategy={trainer.strategy.strategy_name}: several processes train by ddp only")  # pyright: ignore[reportAttributeAccessIssue]
    if trainer.world_size > 1 and not trainer.strategy._ddp_kwargs.get("find_unused_parameters"):  # pyright: ignore[reportAttributeAccessIssue]
        raise UserError(
            f"trainer.devices are {trainer.world_size} here: set +trainer.strategy=ddp, or trainer.devices=1"
        )
    if trainer.world_size > images:
        raise UserError(f"{trainer.world_size} processes for {images} training images: use fewer (trainer.devices)")


class SharedStatistics(pl.Callback):
    """Keeps what is no parameter, and so not DDP's business, equal in all processes."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Rank 0's closed-form statistics for all, to the last bit."""
        if trainer.world_size > 1:
            for buffer in pl_module.buffers():
                values = buffer.contiguous()  # whatever order they lie in here
                distributed.broadcast(values, 0)
                buffer.copy_(values)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The mean of BatchNorm's running statistics, of the networks and of their averaged copies."""
        if trainer.world_size > 1:
            running = _running_statistics(pl_module)
            if running:
                flat = torch.cat([buffer.flatten() for buffer in running])
                distributed.all_reduce(flat)
                flat /= trainer.world_size
                for buffer, mean in zip(running, flat.split([buffer.numel() for buffer in running]), strict=True):
                    buffer.copy_(mean.view_as(buffer))


def _running_statistics(module: nn.Module) -> list[torch.Tensor]:
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    found = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var)]
    return [buffer for buffer in found if buffer is not None]


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
