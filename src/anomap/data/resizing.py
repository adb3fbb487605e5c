"""Maps and photographs at another size: the same for what is shown, decided and measured. Needs no torch."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Map = npt.NDArray[np.float32]


def resize_map(plane: Map, size: tuple[int, int]) -> Map:
    """A map float32 (h, w) at `size` (H, W): bilinear, antialiased where it shrinks."""
    if plane.shape == tuple(size):
        return plane
    height, width = size
    resized: Any = Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def reduced(photograph: npt.NDArray[np.uint8], size: tuple[int, int]) -> Map:
    """A photograph uint8 (C, H, W) at `size`, as `resize_map` does: float32 (C, h, w), in whole grey levels."""
    if photograph.shape[1:] == tuple(size):
        return photograph.astype(np.float32)
    height, width = size
    planes: list[Any] = [
        Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR) for plane in photograph
    ]
    return np.stack([np.asarray(plane, np.float32) for plane in planes])


def at_most(shape: tuple[int, ...], longest: int) -> tuple[int, int]:
    """The size of a picture (H, W) that is shrunk until neither side is longer."""
    height, width = shape
    times = max(1.0, max(height, width) / longest)
    return max(1, round(height / times)), max(1, round(width / times))
