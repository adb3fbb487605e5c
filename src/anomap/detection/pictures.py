"""What a method says of images, as arrays that can be drawn."""

from collections.abc import Iterable
from itertools import repeat

import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from anomap.objectives.base import MethodOutput
from anomap.viewing.pixels import Picture, Pixels, smaller_mask

LONGEST = 768  # pixels of a picture's side; a larger photograph is shown smaller


def as_pictures(
    output: MethodOutput, images: Pixels, masks: Iterable[npt.NDArray | None] | None = None
) -> list[Picture]:
    """Of stored images (B, C, H, W), and their true masks of any size, (h, w) or (1, h, w), as far as there are any.

    In photographs that are shrunk, the smallest peak of a map stays.
    """
    output, images = _small(output, images)
    size = images.shape[-2:]
    columns = (
        images,
        _array(output.anomaly_map),
        repeat(None) if masks is None else (None if mask is None else smaller_mask(mask, size) for mask in masks),
        repeat(None) if output.attention_map is None else _array(output.attention_map),
        repeat(None) if output.reconstruction is None else to_bytes(output.reconstruction),
    )
    return [Picture(*shown) for shown in zip(*columns, strict=False)]


def _small(output: MethodOutput, images: Pixels) -> tuple[MethodOutput, Pixels]:
    """Both with no side longer than `LONGEST`."""
    height, width = images.shape[2:]
    longest = max(height, width)
    if longest <= LONGEST:
        return output, images
    size = max(1, height * LONGEST // longest), max(1, width * LONGEST // longest)
    attention, restored = output.attention_map, output.reconstruction
    shrunk = MethodOutput(
        output.parts,
        F.adaptive_max_pool2d(output.anomaly_map.float(), size),
        None if attention is None else -F.adaptive_max_pool2d(-attention.float(), size),
        None if restored is None else F.adaptive_avg_pool2d(restored.float(), size),
    )
    return shrunk, to_bytes(F.adaptive_avg_pool2d(torch.from_numpy(images).float() / 255, size))


def to_bytes(images: Tensor) -> Pixels:
    """[0, 1] of any shape, on any device -> uint8."""
    return (images.float() * 255).round().byte().cpu().numpy()


def _array(maps: Tensor) -> npt.NDArray:
    return maps.float().cpu().numpy()
