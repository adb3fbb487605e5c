"""Pixel metrics of anomaly maps, accumulated batch by batch in constant memory.

Every pixel's anomaly is turned into an integer that sorts like it (the bits of its float32), and the pixels
are counted per integer. As long as there are at most `BINS` distinct integers the result is exact; beyond
that the lowest bits are dropped, one at a time, until they fit. No range has to be known, maps squeezed into
a narrow band keep their full resolution, and the outcome does not depend on the size or the order of the
batches.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from anomap.detection.metrics import auroc_from_counts, average_precision_from_counts

BINS = 2**18  # 7 MB: the area's error is about one over the number of bins that the pixels fill
AUPRO_FPR_LIMIT = 0.3  # as in Bergmann et al. 2019 and every MVTec table since

# Diagonal neighbours belong to one region (as in MVTec's own evaluation); images of a batch never touch.
_NEIGHBOURS = np.zeros((3, 3, 3), bool)
_NEIGHBOURS[1] = True


def ordered_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Map finite float32 to uint32 such that a < b exactly when bits(a) < bits(b); -0.0 equals 0.0."""
    bits = (values + np.float32(0)).view(np.uint32)  # adding 0 turns -0.0 into 0.0
    # IEEE 754: positive numbers already sort as integers, negative ones sort backwards below them.
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def region_weights(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.float64], int]:
    """Weight of each abnormal pixel in the per-region overlap, and the number of regions.

    Args:
        mask: (B, H, W), True = abnormal.

    Returns:
        (P,) one over the area of the pixel's 8-connected region, for the P abnormal pixels in C order.
    """
    regions = np.empty(mask.shape, np.int32)
    ndimage.label(mask, structure=_NEIGHBOURS, output=regions)
    own = regions[mask]
    return 1 / np.bincount(own)[own], int(own.max(initial=0))


def aupro_from_counts(normal: npt.NDArray, overlap: npt.NDArray, limit: float = AUPRO_FPR_LIMIT) -> float:
    """Area under the per-region overlap against the pixel false-positive rate up to `limit`, over `limit`.

    The overlap at a threshold is the mean over ground-truth regions of the share of the region above it
    (Bergmann et al., "MVTec AD", CVPR 2019). Between two thresholds the curve is a straight line; it is cut
    exactly at `limit`, so the result is in [0, 1].

    Args:
        normal: (K,) numbers of normal pixels at K ascending distinct anomalies.
        overlap: (K,) sums of `region_weights` of the abnormal pixels there.
        limit: highest false-positive rate, in (0, 1].
    """
    fpr = np.concatenate(([0.0], np.cumsum(np.asarray(normal, np.float64)[::-1])))
    pro = np.concatenate(([0.0], np.cumsum(np.asarray(overlap, np.float64)[::-1])))
    fpr, pro = fpr / fpr[-1], pro / pro[-1]
    inside = fpr <= limit
    last = int(inside.sum()) - 1
    xs, ys = fpr[inside], pro[inside]
    if last + 1 < fpr.size:
        share = (limit - fpr[last]) / (fpr[last + 1] - fpr[last])
        xs = np.append(xs, limit)
        ys = np.append(ys, pro[last] + share * (pro[last + 1] - pro[last]))
    return float(np.trapezoid(ys, xs) / limit)


def _distinct(ascending: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """np.unique of sorted numbers; NumPy hashes integers, 50 times slower when millions are distinct."""
    return ascending[np.concatenate(([True], ascending[1:] != ascending[:-1]))[: ascending.size]]


class PixelMetrics:
    """Pixel AUROC, AP and AUPRO of a stream of anomaly maps and masks.

    Example:
        >>> metrics = PixelMetrics()
        >>> metrics.update(np.array([[[[0.1, 0.9]]]]), np.array([[[[0, 1]]]]))
        >>> metrics.compute()
        {'pixel_auroc': 1.0, 'pixel_ap': 1.0, 'pixel_aupro': 1.0}
    """

    def __init__(self, bins: int = BINS) -> None:
        """Keep at most `bins` distinct anomalies."""
        self.bins = bins
        self.dropped_bits = 0
        self.regions = 0
        self._keys = np.empty(0, np.uint32)
        self._counts = np.empty((0, 3))  # (K, normal pixels, abnormal pixels, region weight): exact up to 2^53

    def update(self, anomaly_map: npt.ArrayLike, mask: npt.ArrayLike) -> None:
        """Add a batch.

        Args:
            anomaly_map: (B, 1, H, W) or (B, H, W), higher = more abnormal; read as float32.
            mask: the same shape, 1 = abnormal.

        Raises:
            ValueError: shapes differ, or the map is not finite.
        """
        values, abnormal = np.asarray(anomaly_map, np.float32), np.asarray(mask) > 0
        if values.shape != abnormal.shape or not (values.ndim == 3 or (values.ndim == 4 and values.shape[1] == 1)):
            raise ValueError(f"map {values.shape} and mask {abnormal.shape} must both be (B, 1, H, W) or (B, H, W)")
        if not np.isfinite(values).all():
            raise ValueError("the anomaly map is not finite")
        abnormal = abnormal.reshape(-1, *abnormal.shape[-2:])
        keys = ordered_bits(values.reshape(abnormal.shape)) >> np.uint32(self.dropped_bits)
        weights, regions = region_weights(abnormal)
        self.regions += regions

        normal_keys, normal_counts = np.unique(keys[~abnormal], return_counts=True)
        abnormal_keys, position = np.unique(keys[abnormal], return_inverse=True)
        added = np.zeros((normal_keys.size + abnormal_keys.size, 3), np.float64)
        added[: normal_keys.size, 0] = normal_counts
        added[normal_keys.size :, 1] = np.bincount(position, minlength=abnormal_keys.size)
        added[normal_keys.size :, 2] = np.bincount(position, weights, minlength=abnormal_keys.size)
        self._add(np.concatenate((normal_keys, abnormal_keys)), added)

    def merge(self, other: "PixelMetrics") -> None:
        """Add what another process accumulated; the result is that of one process having seen everything."""
        drop = max(self.dropped_bits, other.dropped_bits)
        self._keys >>= np.uint32(drop - self.dropped_bits)
        self.dropped_bits = drop
        self.regions += other.regions
        self._add(other._keys >> np.uint32(drop - other.dropped_bits), other._counts)

    def _add(self, keys: npt.NDArray[np.uint32], counts: npt.NDArray[np.float64]) -> None:
        keys, counts = np.concatenate((self._keys, keys)), np.concatenate((self._counts, counts))
        distinct = _distinct(np.sort(keys))
        while distinct.size > self.bins:
            self.dropped_bits += 1
            keys >>= np.uint32(1)
            distinct = _distinct(distinct >> np.uint32(1))
        position = np.searchsorted(distinct, keys)
        columns = [np.bincount(position, column, minlength=distinct.size) for column in counts.T]
        self._keys, self._counts = distinct, np.stack(columns, axis=1).astype(np.float64, copy=False)

    def compute(self) -> dict[str, float | None]:
        """pixel_auroc, pixel_ap and pixel_aupro so far; None while a class of pixels is missing."""
        normal, abnormal, overlap = self._counts.T
        if not (normal.any() and abnormal.any()):
            return {"pixel_auroc": None, "pixel_ap": None, "pixel_aupro": None}
        return {
            "pixel_auroc": float(auroc_from_counts(normal, abnormal)),
            "pixel_ap": average_precision_from_counts(normal, abnormal),
            "pixel_aupro": aupro_from_counts(normal, overlap),
        }
