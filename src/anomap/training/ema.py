"""Exponential moving average of a method's weights: the copy that scores."""

import copy
from typing import Any

import torch
from torch import nn

from anomap.objectives.base import AdversarialObjective


class MovingAverage(nn.Module):
    """A copy of a method whose trained networks follow the original slowly.

    θ_ema <- d θ_ema + (1 - d) θ, with d = min(decay, (1 + n) / (10 + n)) after n updates, so that the start is forgotten.
    Running statistics of BatchNorm are averaged like weights; frozen parts (a stage 1, an encoder) are shared, not copied.

    Args:
        objective: the method being trained.
        decay: d in [0, 1); 0 makes the copy equal to the original.
    """

    updates: torch.Tensor

    def __init__(self, objective: AdversarialObjective, decay: float) -> None:
        super().__init__()
        trained = (objective.generator, objective.discriminator)
        frozen = [m for name, m in objective.named_children() if name not in ("generator", "discriminator")]
        self.objective = copy.deepcopy(objective, {id(module): module for module in frozen}).requires_grad_(False)
        self.objective.eval()
        self.decay = decay
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))
        self._count = 0
        self._trained = trained  # a tuple, so that they are no submodules of this copy
        self._pairs: list[tuple[list[torch.Tensor], list[torch.Tensor]]] | None = None

    @torch.no_grad()
    def update(self) -> None:
        """One step towards the original; call after every optimiser step of the generator."""
        self.updates += 1
        self._count += 1
        decay = min(self.decay, (1 + self._count) / (10 + self._count))
        if self._pairs is None:  # found when first needed: moving a module to a device replaces its buffers
            copies = (self.objective.generator, self.objective.discriminator)
            self._pairs = [_tensors(copied, module) for copied, module in zip(copies, self._trained, strict=True)]
        for averaged, current in self._pairs:
            torch._foreach_lerp_(averaged, current, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    def _apply(self, *args: Any, **kwargs: Any) -> "MovingAverage":
        self._pairs = None
        return super()._apply(*args, **kwargs)

    def train(self, mode: bool = True) -> "MovingAverage":
        """Always in evaluation mode."""
        del mode
        return super().train(False)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._count = int(self.updates)


def _tensors(averaged: nn.Module, current: nn.Module) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """The floating-point tensors of both, in the same order."""
    pairs = zip(averaged.state_dict(keep_vars=True).values(), current.state_dict(keep_vars=True).values(), strict=True)
    floats = [(a, b) for a, b in pairs if a.is_floating_point()]
    return [a for a, _ in floats], [b for _, b in floats]
