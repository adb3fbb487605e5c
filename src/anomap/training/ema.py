"""Exponential moving average of a method's weights: the copy that scores."""

import copy
from typing import Any

import torch
from torch import nn

from anomap.objectives.base import AdversarialObjective

_TRAINED = ("generator", "discriminator")


class MovingAverage(nn.Module):
    """A copy of a method whose trained networks follow the original slowly; always in evaluation mode.

    θ_ema <- d θ_ema + (1 - d) θ, with d = min(decay, (1 + n) / (10 + n)) after n updates: the start is forgotten.
    With decay 0 the copy equals the original. Running statistics of BatchNorm are averaged like weights; frozen parts
    (a stage 1, an encoder) are shared, not copied.
    """

    def __init__(self, objective: AdversarialObjective, decay: float) -> None:
        super().__init__()
        frozen = {id(module): module for name, module in objective.named_children() if name not in _TRAINED}
        self.objective = copy.deepcopy(objective, frozen).requires_grad_(False).eval()
        self.decay = decay
        self.updates = nn.Buffer(torch.zeros((), dtype=torch.long))
        self._count = 0
        self._original = (objective,)  # a tuple, so that it is no submodule of this copy
        self._pairs: tuple[list[torch.Tensor], list[torch.Tensor]] | None = None

    @torch.no_grad()
    def update(self) -> None:
        """One step towards the original; call after every optimiser step of the generator."""
        self.updates += 1
        self._count += 1
        decay = min(self.decay, (1 + self._count) / (10 + self._count))
        if self._pairs is None:  # found when first needed: moving a module to a device replaces its buffers
            self._pairs = _floats(self.objective), _floats(self._original[0])
        torch._foreach_lerp_(*self._pairs, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    def _apply(self, *args: Any, **kwargs: Any) -> "MovingAverage":
        self._pairs = None
        return super()._apply(*args, **kwargs)

    def train(self, mode: bool = True) -> "MovingAverage":
        del mode
        return super().train(False)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._count = int(self.updates)


def _floats(method: AdversarialObjective) -> list[torch.Tensor]:
    """What is averaged: floating-point weights and buffers of the trained networks."""
    states = (getattr(method, name).state_dict(keep_vars=True) for name in _TRAINED)
    return [tensor for state in states for tensor in state.values() if tensor.is_floating_point()]
