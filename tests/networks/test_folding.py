"""A folded network computes the same, and one that cannot be folded is left as it is."""

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("timm")

from timm.layers.conv2d_same import Conv2dSame, create_conv2d_pad
from timm.layers.norm_act import BatchNormAct2d

from anomap.networks.encoder import PretrainedEncoder
from anomap.networks.folding import FUSED, HalvingSame, WithReLU6, folded


def _trained(network: nn.Module) -> nn.Module:
    """With statistics and weights of BatchNorm that do something."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 2, generator=generator)
            nn.init.normal_(module.bias, 0, 0.1, generator=generator)
    return network.eval().requires_grad_(False)


class Small(nn.Module):
    """Two convolutions with a norm each, the second with a bias of its own; the first one's output may be used twice."""

    def __init__(self, twice: bool = False) -> None:
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.second, self.second_norm = nn.Conv2d(4, 5, 1), BatchNormAct2d(5)
        self.twice = twice

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.first(x)
        y = self.second_norm(self.second(self.first_norm(x)))
        return [x, y] if self.twice else [y]


def _norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_norms_are_gone_and_nothing_else_changes() -> None:
    network, x = _trained(Small()), torch.randn(2, 3, 8, 8)
    before = network(x)[0]
    quick = folded(network, x)
    assert (_norms(network), _norms(quick)) == (2, 0)
    torch.testing.assert_close(quick(x)[0], before, rtol=1e-4, atol=1e-5)
    assert torch.equal(network(x)[0], before)


def test_a_network_that_uses_what_a_norm_takes_is_left_as_it_is() -> None:
    network, x = _trained(Small(twice=True)), torch.randn(2, 3, 8, 8)
    assert folded(network, x) is network


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("side", [8, 11])
def test_padding_of_tensorflow(kernel: int, side: int) -> None:
    convolution = create_conv2d_pad(6, 6, kernel, stride=2, padding="same", groups=6, bias=True)
    assert type(convolution) is Conv2dSame
    assert isinstance(convolution, nn.Conv2d)
    x = torch.randn(2, 6, side, side + 2)
    torch.testing.assert_close(HalvingSame(convolution)(x), convolution(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_100"])
def test_the_encoder_computes_as_its_network_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = PretrainedEncoder(name, local=[8, 16], context=[32])
    _trained(encoder.network)
    images = torch.rand(2, 3, 64, 96)
    plain = encoder.network((images - encoder.mean) / encoder.std)
    calls = []
    original = nn.functional.batch_norm
    monkeypatch.setattr(nn.functional, "batch_norm", lambda *a, **k: calls.append(1) or original(*a, **k))
    encoder(images)
    calls.clear()
    with torch.inference_mode():
        quick = encoder(images)
    assert not calls
    for now, before in zip(quick, plain, strict=True):
        torch.testing.assert_close(now, before, rtol=1e-3, atol=1e-3 * float(before.abs().max()))


def test_an_encoder_with_new_weights_uses_them() -> None:
    encoder, other = PretrainedEncoder(), PretrainedEncoder()
    images = torch.rand(1, 3, 64, 64)
    before, expected = encoder(images)[0], other(images)[0]
    assert not torch.allclose(before, expected)
    encoder.load_state_dict(other.state_dict())
    torch.testing.assert_close(encoder(images)[0], expected)
    assert encoder.to(torch.float64)(images.double())[0].dtype == torch.float64


class Activated(nn.Module):
    """Convolutions with a ReLU6 after them, one of them halving as TensorFlow does; the last one's output may be used twice."""

    def __init__(self, twice: bool = False) -> None:
        super().__init__()
        self.halving = create_conv2d_pad(3, 8, 3, stride=2, padding="SAME")
        self.depthwise, self.last = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 4, 1, bias=False)
        self.norm, self.twice = nn.BatchNorm2d(8), twice
        self.relu = nn.ModuleList(nn.ReLU6() for _ in range(3))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.relu[0](self.halving(3 * x))
        x = self.last(self.relu[1](self.norm(self.depthwise(x))))
        return [self.relu[2](x), x] if self.twice else [self.relu[2](x)]


@pytest.mark.skipif(not FUSED, reason="no oneDNN")
@pytest.mark.parametrize("size", [(8, 8), (9, 8), (7, 13)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_activations_are_computed_with_their_convolutions(size: tuple[int, int], layout: torch.memory_format) -> None:
    network, x = _trained(Activated()), 5 * torch.randn(2, 3, *size).contiguous(memory_format=layout)
    quick = folded(network, x)
    assert sum(isinstance(module, WithReLU6) for module in quick.modules()) == 3
    torch.testing.assert_close(quick(x)[0], network(x)[0], rtol=1e-4, atol=1e-4)
    assert 0 <= quick(x)[0].min() < quick(x)[0].max() <= 6


def test_what_is_used_before_its_activation_stays_apart_and_norms_are_folded_all_the_same() -> None:
    network, x = _trained(Activated(twice=True)), torch.randn(2, 3, 8, 8)
    quick = folded(network, x)
    assert (_norms(quick), sum(isinstance(module, WithReLU6) for module in quick.modules())) == (0, 0)
    for now, before in zip(quick(x), network(x), strict=True):
        torch.testing.assert_close(now, before, rtol=1e-4, atol=1e-4)
