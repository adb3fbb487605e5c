"""Optimisers and learning-rate schedules of the configuration: any of `torch.optim`, by name."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from anomap.config import find
from anomap.errors import UserError

SCHEDULES: dict[str, dict[str, Any]] = {
    "constant": {"_target_": "torch.optim.lr_scheduler.ConstantLR", "factor": 1.0},
    "cosine": {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR"},  # to zero (1608.03983, eq. 5, no restarts)
    "one_cycle": {"_target_": "torch.optim.lr_scheduler.OneCycleLR"},  # up to the learning rate, then to zero
}
_LENGTH = ("total_steps", "T_max", "total_iters")  # what schedulers call the length of the training


class ChannelsLastAdam(torch.optim.Adam):
    """Adam whose fused kernel gets contiguous views: on a CPU it copies what is not, as channels-last weights are.

    Results and state are Adam's. If a later PyTorch does not call `_init_group`, the copies are back, nothing else.
    """

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        has_complex = super()._init_group(group, *lists)  # pyright: ignore[reportArgumentType, reportCallIssue]
        if group["fused"] and not group["amsgrad"]:
            columns = lists[:4]  # weights, gradients, moments
            for row, tensors in enumerate(zip(*columns, strict=True)):
                if all(t.dim() == 4 and t.is_contiguous(memory_format=torch.channels_last) for t in tensors):
                    for column, tensor in zip(columns, tensors, strict=True):
                        column[row] = tensor.permute(0, 2, 3, 1)  # the same memory in the order it lies
        return bool(has_complex)


class ChannelsLastAdamW(ChannelsLastAdam, torch.optim.AdamW):  # pyright: ignore[reportIncompatibleMethodOverride]
    """AdamW, fast over channels-last weights."""


_FASTER = {torch.optim.Adam: ChannelsLastAdam, torch.optim.AdamW: ChannelsLastAdamW}


def make_optimizer(algorithm: Mapping[str, Any], parameters: Iterable[nn.Parameter], lr: float) -> Optimizer:
    """The optimiser that `algorithm` names (`_target_`) with its options; Adam and AdamW fused and over views.

    UserError if there is none, or it does not take the options.
    """
    kind, options = _named(algorithm)
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if kind in _FASTER:
        kind = _FASTER[kind]
        options.setdefault("fused", all(parameter.device.type in ("cpu", "cuda") for parameter in trained))
    return _make("algorithm", kind, trained, lr=lr, **options)


def make_scheduler(schedule: str | Mapping[str, Any], optimizer: Optimizer, length: int) -> LRScheduler:
    """A schedule of the optimiser's learning rate, which is its highest.

    `schedule` is one of `SCHEDULES`, or a `_target_` of `torch.optim.lr_scheduler` with options; UserError if it is wrong.
    Schedulers that want the `length` of the training get it in the schedule's unit, unless their options say otherwise.
    """
    if isinstance(schedule, str):
        if schedule not in SCHEDULES:
            raise UserError(
                f"model.optimizer.schedule={schedule}: not known; use {', '.join(SCHEDULES)}, "
                "or a mapping whose _target_ is a scheduler of torch.optim.lr_scheduler"
            )
        schedule = SCHEDULES[schedule]
    kind, options = _named(schedule)
    lengths = {name: max(1, length) for name in inspect.signature(kind).parameters if name in _LENGTH}
    if kind is lr_scheduler.OneCycleLR:
        options.setdefault("max_lr", [group["lr"] for group in optimizer.param_groups])
    return _make("schedule", kind, optimizer, **{**lengths, **options})


def _named(node: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The class that a node names, and its options; Hydra's own keys (`_partial_`) change nothing here."""
    return find(str(node.get("_target_"))), {key: value for key, value in node.items() if not key.startswith("_")}


def _make(key: str, kind: Any, *arguments: Any, **options: Any) -> Any:
    try:
        return kind(*arguments, **options)
    except (TypeError, ValueError) as error:
        raise UserError(f"model.optimizer.{key}: {kind.__name__}: {str(error).splitlines()[0]}") from error
