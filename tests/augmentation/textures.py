"""Images with texture, and training images to paste from."""

from __future__ import annotations

import torch
from torch import Tensor

from anomap.augmentation.random import Draw


def textured(count: int, channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Images (B, C, H, W) with structure on several scales, on the 8-bit levels of stored images."""
    draw = Draw.at(seed, 0, torch.arange(count))
    y = torch.linspace(0, 1, height)[:, None]
    x = torch.linspace(0, 1, width)
    images = 0.5 + 0.08 * (draw.uniform("noise", channels, height, width) - 0.5)
    for wave in ("coarse", "middle", "fine"):
        scale = {"coarse": 6.0, "middle": 20.0, "fine": 50.0}[wave]
        slope = scale * (draw.uniform(wave, channels, 2, 1, 1) - 0.5)
        images = images + 0.14 * torch.sin(
            slope[:, :, 0] * x + slope[:, :, 1] * y + draw.uniform(wave + "p", 1, 1, 1) * 6
        )
    return (images.clamp(0, 1) * 255).round() / 255


class TrainingImages:
    """Donors over a tensor that remember which images were asked for."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.images)

    def __call__(self, index: Tensor) -> Tensor:
        self.asked += index.tolist()
        return (self.images[index] * 255).round().byte()
