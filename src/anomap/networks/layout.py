"""Feature maps in channels-last memory: the layout in which a CPU convolves without a copy."""

from collections.abc import Sequence

import torch
from torch import Tensor


def beside(maps: Sequence[Tensor]) -> Tensor:
    """Channels of maps (B, C, H, W) side by side, channels-last, whatever the layout of each.

    `torch.cat` lays them out channels-first as soon as one is so; and every map of one channel is, for all it can tell. Each
    convolution that sees them, forward and backward, then makes a copy.
    """
    return torch.cat([_channels_last(x) for x in maps], dim=1)


def _channels_last(x: Tensor) -> Tensor:
    if x.shape[1] == 1:  # both layouts are the same memory: only the strides tell them apart
        return x.contiguous().view(x.shape[0], x.shape[2], x.shape[3], 1).permute(0, 3, 1, 2)
    return x.contiguous(memory_format=torch.channels_last)
