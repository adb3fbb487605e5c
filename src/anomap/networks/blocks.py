"""CBAM (Woo et al. 2018, 1807.06521), SAGAN's self-attention (Zhang et al. 2019, 1805.08318), DCGAN's start (1511.06434)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm


class ChannelGate(nn.Module):
    """Channel attention of CBAM, eq. 2: sigmoid(MLP(avg-pool) + MLP(max-pool)), one MLP for both.

    The hidden layer has C / reduction units, but at least `floor`: a single one could tell nothing apart.
    """

    def __init__(self, channels: int, reduction: int = 16, floor: int = 4) -> None:
        super().__init__()
        hidden = max(channels // reduction, floor)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), each channel scaled by a gate in (0, 1)."""
        gate = torch.sigmoid(self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3))))  # (B, C)
        return x * gate[:, :, None, None]


class SpatialGate(nn.Module):
    """Spatial attention of CBAM, eq. 3: sigmoid(BN(conv7x7([max over C; mean over C])))."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size=7, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), each position scaled by a gate in (0, 1)."""
        pooled = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)  # (B, 2, H, W)
        return x * torch.sigmoid(self.norm(self.conv(pooled)))


class CBAM(nn.Sequential):
    """Convolutional block attention: the channel gate, then the spatial gate (1807.06521, section 3)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__(ChannelGate(channels, reduction), SpatialGate())


class SelfAttention(nn.Module):
    """SAGAN's self-attention layer: y = x + gamma * o, gamma = 0 at the start (1805.08318, eq. 1-3).

    As in the authors' code, queries and keys have C/8 channels, values C/2; keys and values are 2x2 max-pooled, so the
    attention matrix is N x N/4; there is no 1/sqrt(d); all 1x1 convolutions are spectrally normalised.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 8:
            raise ValueError(f"self-attention needs at least 8 channels, got {channels}")
        narrow, half = channels // 8, channels // 2
        pairs = (channels, narrow), (channels, narrow), (channels, half), (half, channels)
        self.query, self.key, self.value, self.out = (spectral_norm(nn.Conv2d(*pair, 1, bias=False)) for pair in pairs)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W); H and W even."""
        height, width = x.shape[-2:]
        query = self.query(x).flatten(2).transpose(1, 2)  # (B, N, C/8)
        key = F.max_pool2d(self.key(x), 2).flatten(2).transpose(1, 2)  # (B, N/4, C/8)
        value = F.max_pool2d(self.value(x), 2).flatten(2).transpose(1, 2)  # (B, N/4, C/2)
        if not torch.compiler.is_exporting():
            # PyTorch's fused kernel for CPUs needs equal widths; without it the N x N/4 matrix goes through memory
            missing = (0, value.shape[-1] - query.shape[-1])
            query, key = F.pad(query, missing), F.pad(key, missing)  # zeros add nothing to a product
        # the ONNX exporter knows attention only with a dimension of heads
        attended = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None], scale=1.0)
        attended = attended[:, 0].transpose(1, 2).unflatten(2, (height, width))  # (B, C/2, H, W)
        return x + self.gamma * self.out(attended)


def dcgan_init(module: nn.Module) -> None:
    """DCGAN's initialisation, for `network.apply(dcgan_init)`: convolutions N(0, 0.02), norm scales N(1, 0.02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        spectral = nn.utils.parametrize.is_parametrized(module, "weight")
        weight = module.parametrizations.weight.original if spectral else module.weight  # pyright: ignore
        nn.init.normal_(weight, 0.0, 0.02)  # pyright: ignore
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
