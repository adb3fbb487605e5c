"""Channels side by side, in the layout that convolutions want."""

import pytest
import torch
from torch import Tensor

from anomap.networks.layout import beside

LAST = torch.channels_last


def maps(channels: int, layout: torch.memory_format) -> Tensor:
    return torch.rand(2, channels, 3, 4).contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", [torch.contiguous_format, LAST])
@pytest.mark.parametrize("channels", [(5, 1), (1, 1), (1,), (4, 3, 1)])
def test_the_same_as_cat_but_channels_last(channels: tuple[int, ...], layout: torch.memory_format) -> None:
    parts = [maps(count, layout) for count in channels]
    found = beside(parts)
    assert torch.equal(found, torch.cat(parts, 1))
    assert found.stride(3) == found.shape[1]
    assert found.is_contiguous(memory_format=LAST)


def test_slices_become_whole() -> None:
    x = maps(6, LAST)
    found = beside([x[:, 1:4]])
    assert torch.equal(found, x[:, 1:4])
    assert found.is_contiguous(memory_format=LAST)


def test_gradients_reach_every_part() -> None:
    parts = [maps(3, LAST).requires_grad_(), maps(1, torch.contiguous_format).requires_grad_()]
    weights = torch.rand(2, 4, 3, 4)
    (beside(parts) * weights).sum().backward()
    for part, expected in zip(parts, weights.split([3, 1], 1), strict=True):
        torch.testing.assert_close(part.grad, expected)
