"""An anomaly map at another size: the same for what is shown, decided and measured. Needs no torch."""

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
