"""Channels side by side, in the layout that convolutions want."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from anomap.networks.layout import beside
from tests import tiny

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


@pytest.mark.parametrize("model", ["feature_attention_network", "attention_network", "adgan"])
def test_no_convolution_of_a_step_has_to_copy_its_input(model: str) -> None:
    method = (
        tiny.fitted(tiny.objective(model, "data.image_size=64"), tiny.textures(12, size=64))
        .train()
        .to(memory_format=LAST)
    )
    copied: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []

    def look(name: str, x: Tensor) -> None:
        if x.shape[1] > 2 and x.shape[3] > 1 and not x.is_contiguous(memory_format=LAST):  # 2: CBAM's small maps
            copied.append((name, tuple(x.shape), x.stride()))

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, inputs: look(name, inputs[0])

    convolutions = 0
    for network in (method.generator, method.discriminator):
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                convolutions += 1
                module.register_forward_pre_hook(hook(name))
    step = method.generate(tiny.batch(4, size=64))
    method.discriminator_losses(step.detached())["loss"].backward()
    method.generator_losses(step)["loss"].backward()
    assert convolutions > 5
    assert not copied
