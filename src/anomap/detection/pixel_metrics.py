"""Pixel metrics of anomaly maps at the size of the masks, accumulated image by image in constant memory.

A mask is never resized, since thin defects would vanish: the map is. Pixels are counted per integer that sorts like their
anomaly (the bits of its float32). With at most `BINS` distinct integers the result is exact; with more, their lowest bits
are set to zero, one after the other, until they fit. So no range has to be known, maps within a narrow band keep their
resolution, and the result depends neither on the size or order of the batches, nor on which process saw which.
"""

import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor

from anomap.data.resizing import resize_map
from anomap.detection.gathered import GatheredRows
from anomap.detection.metrics import auroc_from_counts, average_precision_from_counts

NAMES: tuple[str, ...] = ("pixel_auroc", "pixel_ap", "pixel_aupro")
BINS = 2**18  # 8 MB: the area's error is about one over the number of bins that the pixels fill
_PIXELS = 2**20  # of several images at a time, and
_STRIP = 2**22  # of one image at a time: bounds the memory
_SPARSE = 4  # times as many empty bins as pixels at most in a table that is counted directly
_ROWS = 4  # times `bins` at most that wait to be merged
AUPRO_FPR_LIMIT = 0.3  # as in Bergmann et al. 2019 and every MVTec table since

# diagonal neighbours belong to one region (as in MVTec's own evaluation); images of a batch never touch
_NEIGHBOURS = np.zeros((3, 3, 3), bool)
_NEIGHBOURS[1] = True


def ordered_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Map finite float32 to uint32 such that a < b exactly when bits(a) < bits(b); -0.0 equals 0.0."""
    bits = (values + np.float32(0)).view(np.uint32)  # adding 0 turns -0.0 into 0.0
    # IEEE 754: positive numbers sort as integers, negative ones backwards below them
    negative = bits.view(np.int32) >> 31  # all bits set, or none
    return bits ^ (negative.view(np.uint32) | np.uint32(1 << 31))


def region_weights(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """One over the area of its 8-connected region, for each abnormal pixel of a mask (B, H, W), in C order."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in ((0, 2), (0, 1)))
    if rows.size == 0:
        return np.empty(0)
    box = mask[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    regions = np.empty(box.shape, np.int32)
    ndimage.label(box, structure=_NEIGHBOURS, output=regions)
    own = regions[box]
    return 1 / np.bincount(own)[own]


def aupro_from_counts(normal: npt.NDArray, overlap: npt.NDArray, limit: float = AUPRO_FPR_LIMIT) -> float:
    """Area under the per-region overlap against the pixel false-positive rate up to `limit`, over `limit`; in [0, 1].

    The overlap at a threshold is the mean over ground-truth regions of the share of the region above it (Bergmann et
    al., "MVTec AD", CVPR 2019). Between two thresholds the curve is a straight line. `normal` (K,) are numbers of normal
    pixels at K ascending distinct anomalies, `overlap` (K,) sums of `region_weights` of the abnormal pixels there.
    """
    fpr = np.concatenate(([0.0], np.cumsum(np.asarray(normal, np.float64)[::-1])))
    pro = np.concatenate(([0.0], np.cumsum(np.asarray(overlap, np.float64)[::-1])))
    fpr, pro = fpr / fpr[-1], pro / pro[-1]
    inside = fpr <= limit
    xs, ys = np.append(fpr[inside], limit), np.append(pro[inside], np.interp(limit, fpr, pro))
    return float(np.trapezoid(ys, xs) / limit)


def count_pixels(
    values: npt.NDArray[np.float32],
    abnormal: npt.NDArray[np.bool_],
    weights: npt.NDArray[np.float64],
    dropped_bits: int,
) -> npt.NDArray[np.float64]:
    """Count pixels per distinct anomaly (N,), of which so many lowest bits are set to zero; `weights` of the abnormal ones.

    Gives rows (K, 4) of `ordered_bits`, normal pixels, abnormal pixels, sum of their weights.
    """
    if values.size == 0:
        return np.empty((0, 4))
    bits = ordered_bits(values) >> np.uint32(dropped_bits)
    lowest = bits.min()
    bits -= lowest
    if int(bits.max()) < _SPARSE * bits.size:  # several times faster than to sort
        found = np.flatnonzero(counts := np.bincount(bits))
        counts, place = counts[found], bits[abnormal]
        columns = [np.bincount(place, what, minlength=found[-1] + 1)[found] for what in (None, weights)]
    else:
        found, counts = np.unique(bits, return_counts=True)
        place = np.searchsorted(found, bits[abnormal])
        columns = [np.bincount(place, what, minlength=found.size) for what in (None, weights)]
    kept = (found.astype(np.uint32) + lowest) << np.uint32(dropped_bits)
    return np.stack((kept, counts - columns[0], *columns), axis=1, dtype=np.float64)


def merge_rows(rows: npt.NDArray[np.float64], bins: int, dropped_bits: int) -> tuple[npt.NDArray[np.float64], int]:
    """Add up rows (N, 4) of `count_pixels` with equal anomaly, after dropping at least so many of its lowest bits.

    Gives rows (K, 4), K <= `bins`, of ascending distinct anomalies, and the number of bits dropped for that.
    """
    bits = rows[:, 0].astype(np.uint32)
    kept = _distinct(np.sort(_without_low_bits(bits, dropped_bits)))
    while kept.size > bins:
        dropped_bits += 1
        kept = _distinct(_without_low_bits(kept, dropped_bits))
    position = np.searchsorted(kept, _without_low_bits(bits, dropped_bits))
    sums = [np.bincount(position, column, minlength=kept.size) for column in rows[:, 1:].T]
    return np.stack((kept, *sums), axis=1, dtype=np.float64), dropped_bits


def _without_low_bits(bits: npt.NDArray[np.uint32], dropped: int) -> npt.NDArray[np.uint32]:
    return bits & np.uint32(2**32 - 2**dropped)


def _distinct(ascending: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """np.unique of sorted numbers; NumPy hashes integers, 50 times slower when millions are distinct."""
    return ascending[np.concatenate(([True], ascending[1:] != ascending[:-1]))[: ascending.size]]


class PixelMetrics(GatheredRows):
    """Pixel AUROC, AP and AUPRO of a stream of anomaly maps and masks, with at most `bins` distinct anomalies.

    Its rows are those of `count_pixels` (exact up to 2^53 pixels): concatenated over processes and merged, they are what
    one process would have counted.
    """

    dropped_bits: Tensor

    def __init__(self, bins: int = BINS, **options: Any) -> None:
        super().__init__(4, torch.float64, **options)
        self.bins = bins
        self.add_state("dropped_bits", torch.tensor(0), dist_reduce_fx="max")

    def update(self, anomaly_map: npt.ArrayLike, mask: npt.ArrayLike) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Add an image, or images: maps (..., h, w), higher = more abnormal, read as float32; masks (..., H, W), 1 = abnormal.

        The maps are brought to the size of the masks. ValueError if there are more of one than of the other, or a map is
        not finite.
        """
        values, truth = np.asarray(anomaly_map, np.float32), np.asarray(mask)
        if values.ndim < 2 or truth.ndim < 2 or values.shape[:-2] != truth.shape[:-2]:
            raise ValueError(f"maps {values.shape} and masks {truth.shape} must be (..., h, w) and (..., H, W)")
        if not np.isfinite(values).all():
            raise ValueError("the anomaly map is not finite")
        values, truth = (array.reshape(-1, *array.shape[-2:]) for array in (values, truth))
        size = truth.shape[1:]
        step = max(1, _PIXELS // max(1, math.prod(size)))
        for start in range(0, len(truth), step):
            part = values[start : start + step]
            sized = part if part.shape[1:] == size else np.stack([resize_map(plane, size) for plane in part])
            self._count(sized, truth[start : start + step] > 0)

    def _count(self, values: npt.NDArray[np.float32], abnormal: npt.NDArray[np.bool_]) -> None:
        """Add maps and masks of one shape (B, H, W), a strip at a time."""
        weights, used = region_weights(abnormal), 0
        values, abnormal = values.ravel(), abnormal.ravel()
        for start in range(0, values.size, _STRIP):
            strip = slice(start, start + _STRIP)
            until = used + np.count_nonzero(abnormal[strip])
            counted = count_pixels(values[strip], abnormal[strip], weights[used:until], int(self.dropped_bits))
            used = until
            super().update(torch.from_numpy(counted))
            if sum(map(len, self.rows)) > _ROWS * self.bins:
                rows, dropped = self._merged()
                self.rows = [torch.from_numpy(rows).to(self.device)]
                self.dropped_bits = torch.tensor(dropped, device=self.device)

    def _merged(self) -> tuple[npt.NDArray[np.float64], int]:
        return merge_rows(self.table().cpu().numpy(), self.bins, int(self.dropped_bits))

    def compute(self) -> dict[str, float | None]:
        """pixel_auroc, pixel_ap and pixel_aupro so far; None while a class of pixels is missing."""
        _, normal, abnormal, overlap = self._merged()[0].T
        if not (normal.any() and abnormal.any()):
            return dict.fromkeys(NAMES)
        areas = (
            float(auroc_from_counts(normal, abnormal)),
            average_precision_from_counts(normal, abnormal),
            aupro_from_counts(normal, overlap),
        )
        return dict(zip(NAMES, areas, strict=True))


class AgainstMasks:
    """The pixel metrics of images by index; `mask_of` gives the mask of one, bool (H, W), or None to leave it out."""

    def __init__(self, mask_of: Callable[[int], npt.NDArray[np.bool_] | None]) -> None:
        self._mask_of, self._metrics = mask_of, PixelMetrics()
        self.seconds = 0.0  # that it took

    def update(self, indices: Iterable[int], maps: npt.NDArray[np.float32]) -> None:
        """Add the maps (B, 1, h, w) of images."""
        began = time.perf_counter()
        for index, anomaly_map in zip(indices, maps, strict=True):
            if (mask := self._mask_of(index)) is not None:
                self._metrics.update(anomaly_map[0], mask)
        self.seconds += time.perf_counter() - began

    def compute(self) -> dict[str, float | None]:
        """As of `PixelMetrics`."""
        began = time.perf_counter()
        found = self._metrics.compute() if self._metrics.update_called else dict.fromkeys(NAMES)
        self.seconds += time.perf_counter() - began
        return found
