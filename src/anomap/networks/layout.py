"""Feature maps in channels-last memory: the layout in which a CPU convolves without a copy."""

from collections.abc import Sequence

import torch
from torch import Tensor


def channels_last(x: Tensor) -> Tensor:
    """(a, b, H, W) -> (a, H, W, b): no copy where memory is channels-last already; the gradient is channels-last too."""
    return x.permute(0, 2, 3, 1)


def channels_first(x: Tensor) -> Tensor:
    """(a, H, W, b) -> (a, b, H, W), channels-last in memory."""
    return x.permute(0, 3, 1, 2)


def beside(maps: Sequence[Tensor]) -> Tensor:
    """Channels of maps (B, C, H, W) side by side, channels-last in memory, whatever the layout of each.

    `torch.cat` of the maps themselves is channels-first as soon as one is so; and every map of one channel is, for all it can
    tell. Each convolution that sees them, forward and backward, then makes a copy.
    """
    return channels_first(torch.cat([channels_last(x) for x in maps], dim=3))
