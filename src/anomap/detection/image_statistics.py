"""Simple statistics of an image as a detector sees it: what a change of camera or light moves first. Needs no torch."""

import math
from typing import Any

STATISTICS = ("brightness", "contrast", "sharpness", "width", "height")  # the last two are of the file
_BAND, _SKIPPED = 4, 8  # of an image of 128 pixels and more, 4 rows in 32 are looked at: prediction stays as fast
_FLAT = 1e-6  # variance: what has next to no contrast has next to no sharpness


def image_statistics(images: Any) -> Any:
    """Images (B, C, H, W), uint8 or in [0, 1], an array or a tensor -> brightness, contrast, sharpness (B, 3), float32.

    Brightness and contrast are the mean and the standard deviation of the grey levels in [0, 1], all channels averaged.
    Sharpness is the root mean square of the Laplacian over the contrast: neither light nor contrast changes it. Evenly
    spaced bands of rows are looked at.
    """
    height, width = images.shape[-2:]
    step = min(height // 16, _SKIPPED)
    if step > 1:
        images = images[:, :, : height // _BAND * _BAND]
        images = images.reshape(*images.shape[:2], -1, _BAND, width)[:, :, step // 2 :: step]
    else:
        images = images[:, :, None]
    grey = _floats(images).mean(1) if images.shape[1] > 1 else _floats(images)[:, 0]  # (B, bands, H, W)
    if "uint8" in str(images.dtype):
        grey /= 255
    mean = grey.mean((1, 2, 3))
    grey = grey - mean[:, None, None, None]
    variance = (grey * grey).mean((1, 2, 3))
    bend = 4 * grey[:, :, 1:-1, 1:-1]
    for part in (grey[:, :, :-2, 1:-1], grey[:, :, 2:, 1:-1], grey[:, :, 1:-1, :-2], grey[:, :, 1:-1, 2:]):
        bend -= part
    bend *= bend
    pieces = max(1, math.prod(bend.shape[1:]))  # none, of an image of less than 3 pixels
    sharpness = ((bend.sum((1, 2, 3)) / pieces + _FLAT) / (variance + _FLAT)) ** 0.5
    return _columns(mean, variance**0.5, sharpness)


def _floats(values: Any) -> Any:
    return values.float() if hasattr(values, "float") else values.astype("float32", copy=False)


def _columns(*values: Any) -> Any:
    """(B,) each -> (B, K), of the kind that they are."""
    if hasattr(values[0], "new_empty"):
        table = values[0].new_empty((len(values[0]), len(values)))
    else:
        import numpy as np

        table = np.empty((len(values[0]), len(values)), np.float32)
    for place, column in enumerate(values):
        table[:, place] = column
    return table
