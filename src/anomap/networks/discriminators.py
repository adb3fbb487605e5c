"""The discriminator: after DCGAN (1511.06434), GANomaly's NetD (1805.06725), spectral normalisation (1802.05957)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from anomap.networks.blocks import dcgan_init
from anomap.networks.convolutions import Convolution
from anomap.networks.generators import down, halved, widths


class Discriminator(nn.Module):
    """A DCGAN encoder that ends in one logit and shows its last features; for `channels` to `depth` see `generators`."""

    def __init__(
        self,
        channels: int,
        image_size: int | Sequence[int],
        width: int = 64,
        depth: int = 4,
        map_channels: int = 0,  # of the concatenated map
        input_stride: int = 1,  # 1 for images; for feature maps, the image's pixels to a cell
        norm: Literal["batch", "spectral"] = "batch",  # as published, or without statistics of the batch
    ) -> None:
        super().__init__()
        if norm not in ("batch", "spectral"):
            raise ValueError(f"norm must be batch or spectral, not {norm!r}")
        spectral = norm == "spectral"
        sizes = [channels + map_channels, *widths(width, depth)]
        levels = [down(a, b, norm=level > 0 and not spectral) for level, (a, b) in enumerate(pairwise(sizes))]
        self.features = nn.Sequential(*(layer for level in levels for layer in level))
        grid = [side // input_stride for side in halved(image_size, 0)]
        self.logit = Convolution(sizes[-1], 1, halved(grid, depth))
        self.apply(dcgan_init)
        if spectral:
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    spectral_norm(module)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> features (B, F, h, w) and logits (B,)."""
        features = self.features(x)
        return features, self.logit(features).flatten()
