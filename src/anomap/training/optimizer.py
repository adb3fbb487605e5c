"""Adam for weights in channels-last order."""

from typing import Any

import torch
from torch import Tensor


class ChannelsLastAdam(torch.optim.Adam):
    """`torch.optim.Adam`, whose fused kernel copies on a CPU what is not contiguous: here it gets views that are.

    Results and state are those of `torch.optim.Adam`. Should PyTorch one day not call `_init_group` any more, the copies are back,
    and no result changes.
    """

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> bool:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Collect weights, gradients, moments (and, not changed here, maximal moments and numbers of steps)."""
        has_complex = super()._init_group(group, *lists)  # pyright: ignore[reportArgumentType, reportCallIssue]
        if not group["fused"] or group["amsgrad"]:
            return bool(has_complex)
        columns = lists[:4]
        for row, tensors in enumerate(zip(*columns, strict=True)):
            if all(tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last) for tensor in tensors):
                for column, tensor in zip(columns, tensors, strict=True):
                    column[row] = tensor.permute(0, 2, 3, 1)  # the same memory in the order it lies
        return bool(has_complex)
