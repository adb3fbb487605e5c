"""Image metrics on raw float64 anomaly scores; no score is normalised, clipped or flipped before ranking.

Areas come from counts of normal and abnormal items at each distinct score: ties, bootstrap replicates and the binned
pixels of `pixel_metrics` go through the same two functions. Functions that take scores raise ValueError if shapes
differ, a label is neither 0 nor 1, or a score is not finite.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from anomap.intervals import ConfidenceInterval, area_interval

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_BLOCK = 2_000_000  # elements of one bootstrap block: 16 MB of float64, whatever the size of the test set


def auroc_from_counts(normal: npt.NDArray, abnormal: npt.NDArray) -> npt.NDArray:
    """AUROC (...) = P(abnormal > normal) + P(tie) / 2, Mann-Whitney's U over n0 * n1 (Hanley & McNeil 1982).

    Both counts (..., K) are of items at K ascending distinct scores, and not all 0.
    """
    normal, abnormal = np.asarray(normal, np.float64), np.asarray(abnormal, np.float64)
    below = np.cumsum(normal, axis=-1) - normal / 2
    return (abnormal * below).sum(-1) / (abnormal.sum(-1) * normal.sum(-1))


def average_precision_from_counts(normal: npt.NDArray, abnormal: npt.NDArray) -> float:
    """Average precision = sum over descending scores of (recall step) * precision, without interpolation.

    Both counts (K,) are of items at K ascending distinct scores; each score has an item, and one is abnormal.
    """
    steps = np.asarray(abnormal, np.float64)[::-1]
    true = np.cumsum(steps)
    false = np.cumsum(np.asarray(normal, np.float64)[::-1])
    return float((steps * true / (true + false)).sum() / true[-1])


def _checked(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, Bools]:
    raw, given = np.asarray(scores, np.float64), np.asarray(labels)
    if raw.ndim != 1 or raw.shape != given.shape:
        raise ValueError(f"scores and labels must be (N,), not {raw.shape} and {given.shape}")
    if bad := int((~np.isfinite(raw)).sum()):
        raise ValueError(f"{bad} of {raw.size} anomaly scores are not finite")
    if not np.isin(given, (0, 1)).all():
        raise ValueError("labels must be 0 (normal) or 1 (abnormal)")
    return raw, given.astype(bool)


def _counts(scores: Floats, abnormal: Bools) -> tuple[Floats, npt.NDArray, npt.NDArray]:
    """Distinct ascending scores (K,), and how many normals and abnormals have each."""
    values, position = np.unique(scores, return_inverse=True)
    normals, abnormals = (np.bincount(position[of], minlength=values.size) for of in (~abnormal, abnormal))
    return values, normals, abnormals


def _counts_of_both(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[npt.NDArray, npt.NDArray] | None:
    """Numbers of normals and abnormals (K,) at each distinct score; None when a class is missing."""
    raw, abnormal = _checked(scores, labels)
    return None if abnormal.all() or not abnormal.any() else _counts(raw, abnormal)[1:]


def auroc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float | None:
    """Area under the ROC curve of (N,) scores, ties counting one half; None when a class is missing."""
    counts = _counts_of_both(scores, labels)
    return None if counts is None else float(auroc_from_counts(*counts))


def average_precision(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float | None:
    """Average precision of (N,) scores; None when a class is missing."""
    counts = _counts_of_both(scores, labels)
    return None if counts is None else average_precision_from_counts(*counts)


def image_metrics(scores: npt.ArrayLike, labels: npt.ArrayLike, threshold: float) -> dict[str, float | int | None]:
    """Metrics of (N,) scores and labels (0 normal, 1 abnormal), keyed as in `metrics.json`; None for want of a class."""
    raw, abnormal = _checked(scores, labels)
    (row,) = threshold_table(raw, abnormal, [threshold])
    return {
        "image_auroc": auroc(raw, abnormal),
        "image_ap": average_precision(raw, abnormal),
        "image_f1": row["f1"],
        "test_fpr": row["fpr"],
        "test_tpr": row["tpr"],
        "n_test_normal": int((~abnormal).sum()),
        "n_test_abnormal": int(abnormal.sum()),
    }


def auroc_interval(
    scores: npt.ArrayLike, labels: npt.ArrayLike, *, confidence: float = 0.95, replicates: int = 1000, seed: int = 0
) -> ConfidenceInterval | None:
    """Interval of the AUROC: the percentile bootstrap (Efron 1979), classes apart, no narrower than `area_interval`.

    The bootstrap knows the shapes of the classes but collapses where they are separated perfectly; the other knows only
    how many images there are. It covers the choice of test images, not the spread over training seeds. None when a class
    is missing.
    """
    classes = _counts_of_both(scores, labels)
    if classes is None:
        return None
    generator = np.random.default_rng(seed)
    areas, step = [], max(1, _BLOCK // classes[0].size)
    for done in range(0, replicates, step):
        size = min(step, replicates - done)
        drawn = [generator.multinomial(counts.sum(), counts / counts.sum(), size) for counts in classes]
        areas.append(auroc_from_counts(*drawn))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(areas), (tail, 1 - tail))
    sizes = (int(counts.sum()) for counts in classes)
    least = area_interval(float(auroc_from_counts(*classes)), *sizes, deviates=float(ndtri(1 - tail)))
    return ConfidenceInterval(min(float(low), least.low), max(float(high), least.high))


def threshold_table(
    scores: npt.ArrayLike, labels: npt.ArrayLike, thresholds: Iterable[float]
) -> list[dict[str, float | None]]:
    """What each threshold would decide, a row each; a rate of a missing class is None, f1 unless both are present."""
    raw, abnormal = _checked(scores, labels)
    cuts = np.asarray(list(thresholds), np.float64)
    normals, abnormals = np.sort(raw[~abnormal]), np.sort(raw[abnormal])
    false = normals.size - np.searchsorted(normals, cuts, side="right")  # strictly above
    true = abnormals.size - np.searchsorted(abnormals, cuts, side="right")
    rows: list[dict[str, float | None]] = []
    for cut, fp, tp in zip(cuts.tolist(), false.tolist(), true.tolist(), strict=True):
        fpr = fp / normals.size if normals.size else None
        tpr = tp / abnormals.size if abnormals.size else None
        f1 = None if fpr is None or tpr is None else 2 * tp / (tp + fp + abnormals.size)
        row = {"threshold": cut, "accuracy_normal": None if fpr is None else 1 - fpr, "accuracy_abnormal": tpr}
        rows.append({**row, "f1": f1, "fpr": fpr, "tpr": tpr})
    return rows


def threshold_grid(scores: npt.ArrayLike, chosen: float, count: int = 50) -> Floats:
    """Thresholds worth comparing, ascending and distinct: `chosen`, and `count` evenly spaced quantiles of (N,) scores."""
    raw = np.asarray(scores, np.float64)
    quantiles = np.quantile(raw, np.linspace(0, 1, count), method="nearest") if raw.size else raw
    return np.unique(np.append(quantiles, chosen))


def oracle_f1_threshold(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The threshold with the highest F1 on these labels; of equal ones the highest, which gives the fewest alarms.

    An oracle: it reads test labels, so its results may not be compared with those of an honest threshold.

    Raises:
        ValueError: also if no image is abnormal.
    """
    raw, abnormal = _checked(scores, labels)
    if not abnormal.any():
        raise ValueError("F1 needs at least one abnormal image")
    values, normals, abnormals = _counts(raw, abnormal)
    # cut k lies just below values[k]: everything from values[k] upward is decided abnormal
    false, true = np.cumsum(normals[::-1])[::-1], np.cumsum(abnormals[::-1])[::-1]
    f1 = 2 * true / (true + false + abnormal.sum())
    best = values.size - 1 - int(np.argmax(f1[::-1]))
    if best == 0:
        return float(np.nextafter(values[0], -np.inf))
    middle = values[best - 1] / 2 + values[best] / 2
    return float(middle if values[best - 1] <= middle < values[best] else values[best - 1])
