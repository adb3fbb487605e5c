"""The discriminator: a DCGAN encoder that ends in one logit and shows its last features.

Sources: DCGAN (1511.06434), GANomaly's NetD (1805.06725), spectral normalisation (1802.05957).
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from anomap.networks.blocks import dcgan_init
from anomap.networks.convolutions import Convolution
from anomap.networks.generators import halved, widths


class Discriminator(nn.Module):
    """Image (or image and map, concatenated) -> features and one logit.

    Args:
        channels: image channels.
        image_size: one side or (H, W), multiples of `2 ** depth`.
        width: channels after the first halving.
        depth: number of halvings.
        map_channels: channels of a map that comes concatenated to the image.
        input_stride: 1 for images; of feature maps, how many pixels of the image a cell stands for.
        norm: `batch` as published, or `spectral`: no batch statistics at all, so that a real and a fake batch may go
            through together or apart with the same result.
    """

    def __init__(
        self,
        channels: int,
        image_size: int | Sequence[int],
        width: int = 64,
        depth: int = 4,
        map_channels: int = 0,
        input_stride: int = 1,
        norm: Literal["batch", "spectral"] = "batch",
    ) -> None:
        super().__init__()
        if norm not in ("batch", "spectral"):
            raise ValueError(f"norm must be batch or spectral, not {norm!r}")
        spectral = norm == "spectral"
        layers: list[nn.Module] = []
        inputs = channels + map_channels
        grid = [side // input_stride for side in halved(image_size, 0)]
        for level, outputs in enumerate(widths(width, depth)):
            layers.append(Convolution(inputs, outputs, 4, 2, 1, bias=spectral or level == 0))
            if not spectral and level > 0:
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            inputs = outputs
        layers.append(Convolution(inputs, 1, halved(grid, depth)))
        self.features = nn.Sequential(*layers[:-1])
        self.logit = layers[-1]
        self.apply(dcgan_init)
        if spectral:
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    spectral_norm(module)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> features (B, F, h, w) and logits (B,)."""
        features = self.features(x)
        return features, self.logit(features).flatten()
