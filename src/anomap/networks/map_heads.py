"""Heads that draw the logits of an attention map (σ = 1: normal region) over features that have already seen their surroundings."""

from torch import Tensor, nn
from torch.nn import functional as F

from anomap.networks.layout import beside

NORMAL = 3.0  # logits at the start: most of a map is normal


def cell_head(channels: int, hidden: int = 128) -> nn.Sequential:
    """Judges each cell by itself, with three 1x1 convolutions: (B, C, h, w) -> logits (B, 1, h, w)."""
    return nn.Sequential(*_block(channels, hidden, 1), *_block(hidden, hidden, 1), nn.Conv2d(hidden, 1, 1))


class FineHead(nn.Module):
    """Coarse logits from the features and their neighbours, fine ones from these and from details: where an outline runs.

    The features have C `channels`, their density among them; the D of `detail` are maps of half the stride, or the image itself,
    folded onto the grid (`F.pixel_unshuffle`). The fine part has half the `width`: each of its channels costs four times as much.
    """

    FACTOR = 2  # how much finer the map is than the features

    def __init__(self, channels: int, detail: int = 0, width: int = 48) -> None:
        super().__init__()
        finer = detail // self.FACTOR**2
        self.coarse = nn.Sequential(*_block(channels, width, 1), *_block(width, width, 3))
        self.narrow = nn.Conv2d(width, width // 2, 1)
        self.fine = nn.Sequential(*_block(width // 2 + finer, width // 2, 3))
        self.coarse_logits = nn.Conv2d(width, 1, 1)
        self.fine_logits = nn.Conv2d(width // 2, 1, 1)
        for layer in (self.coarse_logits, self.fine_logits):
            nn.init.constant_(layer.bias, NORMAL)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor, detail: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) and (B, D, h, w) -> fine logits (B, 1, 2h, 2w), coarse logits (B, 1, h, w)."""
        coarse = self.coarse(x)
        finer = F.interpolate(self.narrow(coarse), scale_factor=self.FACTOR, mode="bilinear", align_corners=False)
        if detail.shape[1]:
            finer = beside([finer, F.pixel_shuffle(detail, self.FACTOR)])
        return self.fine_logits(self.fine(finer)), self.coarse_logits(coarse)


def _block(inputs: int, outputs: int, kernel: int) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.1, inplace=True)]
