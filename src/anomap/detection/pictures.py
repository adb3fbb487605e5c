"""What a method says of images, as arrays that can be drawn."""

from itertools import repeat

import numpy.typing as npt
from torch import Tensor

from anomap.objectives.base import MethodOutput
from anomap.viewing.pixels import Picture, Pixels


def as_pictures(output: MethodOutput, images: Pixels, masks: npt.NDArray | None) -> list[Picture]:
    """Of stored images (B, C, H, W), and their true masks (B, 1, H, W) if there are any."""
    columns = (
        images,
        _array(output.anomaly_map),
        repeat(None) if masks is None else masks,
        repeat(None) if output.attention_map is None else _array(output.attention_map),
        repeat(None) if output.reconstruction is None else to_bytes(output.reconstruction),
    )
    return [Picture(*shown) for shown in zip(*columns, strict=False)]


def to_bytes(images: Tensor) -> Pixels:
    """[0, 1] of any shape, on any device -> uint8."""
    return (images.float() * 255).round().byte().cpu().numpy()


def _array(maps: Tensor) -> npt.NDArray:
    return maps.float().cpu().numpy()
