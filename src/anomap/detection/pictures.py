"""What a method says of images, as arrays that can be drawn."""

from collections.abc import Iterable
from itertools import repeat

import numpy.typing as npt
from torch import Tensor

from anomap.objectives.base import MethodOutput
from anomap.viewing.pixels import Picture, Pixels, smaller_mask


def as_pictures(
    output: MethodOutput, images: Pixels, masks: Iterable[npt.NDArray | None] | None = None
) -> list[Picture]:
    """Of stored images (B, C, H, W), and their true masks of any size, (h, w) or (1, h, w), as far as there are any."""
    size = images.shape[-2:]
    columns = (
        images,
        _array(output.anomaly_map),
        repeat(None) if masks is None else (None if mask is None else smaller_mask(mask, size) for mask in masks),
        repeat(None) if output.attention_map is None else _array(output.attention_map),
        repeat(None) if output.reconstruction is None else to_bytes(output.reconstruction),
    )
    return [Picture(*shown) for shown in zip(*columns, strict=False)]


def to_bytes(images: Tensor) -> Pixels:
    """[0, 1] of any shape, on any device -> uint8."""
    return (images.float() * 255).round().byte().cpu().numpy()


def _array(maps: Tensor) -> npt.NDArray:
    return maps.float().cpu().numpy()
