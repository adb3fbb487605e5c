"""CBAM, self-attention and the initialisation, against weights set by hand and an explicit formula."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomap.networks.blocks import CBAM, ChannelGate, SelfAttention, SpatialGate, dcgan_init


def linear(gate: ChannelGate, number: int) -> nn.Linear:
    layer = gate.mlp[number]
    assert isinstance(layer, nn.Linear)
    return layer


@torch.no_grad()
def test_channel_gate_known_answer() -> None:
    gate = ChannelGate(2, reduction=1, floor=1)
    linear(gate, 0).weight.copy_(torch.eye(2))
    linear(gate, 0).bias.zero_()
    linear(gate, 2).weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
    linear(gate, 2).bias.copy_(torch.tensor([0.5, 0.0]))
    x = torch.tensor([[[[0.0, 1.0], [2.0, 5.0]], [[-1.0, -1.0], [-1.0, 3.0]]]])
    # means 2 and 0, maxima 5 and 3; the bias counts once for each of the two branches
    expected = torch.sigmoid(torch.tensor([2 + 5 + 2 * 0.5, -(0 + 3.0)]))
    torch.testing.assert_close(gate(x), x * expected.view(1, 2, 1, 1))


@pytest.mark.parametrize(("channels", "reduction", "hidden"), [(128, 16, 8), (64, 16, 4), (32, 16, 4), (8, 16, 4)])
def test_the_hidden_layer_has_a_floor(channels: int, reduction: int, hidden: int) -> None:
    assert linear(ChannelGate(channels, reduction), 0).out_features == hidden


@torch.no_grad()
def test_spatial_gate_known_answer() -> None:
    gate = SpatialGate().eval()  # BatchNorm at its start: x / sqrt(1 + eps)
    gate.norm.eps = 0.0
    gate.conv.weight.zero_()
    gate.conv.weight[0, 0, 3, 3] = 2.0  # the maximum at the position itself
    gate.conv.weight[0, 1, 3, 4] = 1.0  # the mean at its right neighbour
    x = torch.tensor([[[[1.0, 2.0, 0.0]], [[3.0, -2.0, 4.0]]]])  # (1, 2, 1, 3)
    expected = torch.sigmoid(torch.tensor([2 * 3.0 + 0.0, 2 * 2.0 + 2.0, 2 * 4.0 + 0.0]))
    torch.testing.assert_close(gate(x), x * expected)


def test_cbam_is_the_channel_gate_and_then_the_spatial_gate() -> None:
    cbam, x = CBAM(32).eval(), torch.randn(2, 32, 8, 8)
    channel, spatial = cbam
    assert isinstance(channel, ChannelGate)
    assert isinstance(spatial, SpatialGate)
    assert torch.equal(cbam(x), spatial(channel(x)))


def test_self_attention_starts_as_the_identity_and_can_leave_it() -> None:
    block, x = SelfAttention(16), torch.randn(2, 16, 8, 8)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert block.gamma.grad is not None
    assert block.gamma.grad.abs() > 0


def test_self_attention_needs_eight_channels() -> None:
    with pytest.raises(ValueError, match="at least 8"):
        SelfAttention(4)


@pytest.mark.parametrize("size", [(8, 8), (4, 12), (2, 2)])
def test_self_attention_is_softmax_qk_v(size: tuple[int, int]) -> None:
    height, width = size
    block, x = SelfAttention(16).eval(), 3 * torch.randn(2, 16, height, width)
    nn.init.constant_(block.gamma, 0.7)
    query: Tensor = block.query(x).flatten(2)  # (B, 2, N)
    key = F.max_pool2d(block.key(x), 2).flatten(2)  # (B, 2, N/4)
    value = F.max_pool2d(block.value(x), 2).flatten(2)  # (B, 8, N/4)
    beta = torch.einsum("bcn,bcm->bnm", query, key).softmax(dim=2)  # SAGAN eq. 1: no 1/sqrt(d)
    attended = torch.einsum("bnm,bcm->bcn", beta, value).view(2, 8, height, width)
    torch.testing.assert_close(block(x), x + 0.7 * block.out(attended), rtol=1e-5, atol=1e-5)


def test_self_attention_is_spectrally_normalised() -> None:
    block = SelfAttention(32)
    for _ in range(30):
        block(torch.randn(1, 32, 4, 4))
    for layer in (block.query, block.key, block.value, block.out):
        assert isinstance(layer.weight, Tensor)
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert largest.item() == pytest.approx(1, abs=0.02)


def test_dcgan_init_reaches_parametrised_and_plain_layers() -> None:
    net = nn.Sequential(nn.Conv2d(32, 64, 4), nn.BatchNorm2d(256), nn.ConvTranspose2d(64, 32, 4))
    normalised = nn.utils.parametrizations.spectral_norm(nn.Conv2d(64, 64, 4))
    nn.Sequential(net, normalised).apply(dcgan_init)
    conv, norm, transposed = net
    original = normalised.parametrizations.weight.original  # pyright: ignore[reportAttributeAccessIssue, reportOptionalMemberAccess]
    for weight in (conv.weight, transposed.weight, original):
        assert isinstance(weight, Tensor)
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert abs(weight.mean().item()) < 1e-3
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.weight.mean().item() == pytest.approx(1, abs=0.01)
    assert norm.weight.std().item() == pytest.approx(0.02, rel=0.3)
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    assert not conv.bias.any()
