"""What a method says of images, as arrays that can be drawn."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import repeat

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from anomap.objectives.base import MethodOutput
from anomap.viewing.pixels import Picture, Pixels, smaller_mask

LONGEST = 768  # pixels of a picture's side; a larger photograph is shown smaller
ZOOM = 256  # pixels of the side of its piece that is shown as it is


def as_pictures(
    output: MethodOutput, images: Pixels, masks: Iterable[npt.NDArray | None] | None = None
) -> list[Picture]:
    """Of stored images (B, C, H, W), and their true masks of any size, (h, w) or (1, h, w), as far as there are any.

    In photographs that are shrunk, the smallest peak of a map stays, and they have a `zoom`.
    """
    truth = [None] * len(images) if masks is None else list(masks)
    size = images.shape[-2:]
    if max(size) <= LONGEST:
        return _pictures(output, images, truth)
    small, small_images = _small(output, images)
    whole = _pictures(small, small_images, truth)
    return [
        replace(picture, zoom=_piece(output, images, mask, number))
        for number, (picture, mask) in enumerate(zip(whole, truth, strict=True))
    ]


def _pictures(output: MethodOutput, images: Pixels, masks: Iterable[npt.NDArray | None]) -> list[Picture]:
    size = images.shape[-2:]
    columns = (
        images,
        _array(output.anomaly_map),
        (None if mask is None else smaller_mask(mask, size) for mask in masks),
        repeat(None) if output.attention_map is None else _array(output.attention_map),
        repeat(None) if output.reconstruction is None else to_bytes(output.reconstruction),
    )
    return [Picture(*shown) for shown in zip(*columns, strict=False)]


def _around_peak(plane: npt.NDArray) -> tuple[slice, slice]:
    """Rows and columns of the piece of a map (1, H, W) that has its highest value in the middle, or as near as can be."""
    peak = np.unravel_index(plane[0].argmax(), plane.shape[1:])
    sides = [min(ZOOM, length) for length in plane.shape[1:]]
    starts = [
        int(np.clip(at - side // 2, 0, length - side))
        for at, side, length in zip(peak, sides, plane.shape[1:], strict=True)
    ]
    rows, columns = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    return rows, columns


def _piece(output: MethodOutput, images: Pixels, mask: npt.NDArray | None, number: int) -> Picture:
    """Of one of the images, `ZOOM` pixels around the peak of its map."""
    rows, columns = _around_peak(_array(output.anomaly_map[number]))
    part, (height, width) = np.s_[number : number + 1, :, rows, columns], images.shape[-2:]
    maps = [None if maps is None else maps[part] for maps in (output.attention_map, output.reconstruction)]
    cut = None if mask is None else smaller_mask(mask, (height, width))[rows, columns]
    picture = _pictures(MethodOutput({}, output.anomaly_map[part], *maps), images[part], [cut])[0]
    place = [rows.start / height, columns.start / width, rows.stop / height, columns.stop / width]
    return replace(picture, place=np.array(place, np.float32))


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
