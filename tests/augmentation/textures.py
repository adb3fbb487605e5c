"""Images with texture, and training images to paste from."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
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


class TrainingImages(np.ndarray):
    """Donors that remember which images were asked for: `images` (N, C, H, W) in [0, 1], here as bytes."""

    images: Tensor
    asked: list[int]

    def __new__(cls, images: Tensor) -> TrainingImages:
        stored = (images * 255).round().byte().numpy().view(cls)
        stored.images, stored.asked = images, []
        return stored

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[np.uint8]:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.asked += index.tolist()
        return np.asarray(self)[index]
