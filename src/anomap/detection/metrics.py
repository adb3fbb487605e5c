"""Image metrics on raw float64 anomaly scores; no score is normalised, clipped or flipped before ranking.

Areas are computed from counts of normal and abnormal images at each distinct score, so that ties, bootstrap
replicates and the binned pixels of `pixel_metrics` all go through the same two functions.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# Elements of one bootstrap block: 16 MB of float64, whatever the size of the test set.
_BLOCK = 2_000_000


class ConfidenceInterval(NamedTuple):
    """Where the true value lies, with the confidence that was asked for."""

    low: float
    high: float


def auroc_from_counts(normal: npt.NDArray, abnormal: npt.NDArray) -> npt.NDArray:
    """AUROC = P(abnormal > normal) + P(tie) / 2, Mann-Whitney's U over n0 * n1 (Hanley & McNeil 1982).

    Args:
        normal: (..., K) numbers of normal items at K ascending distinct scores.
        abnormal: (..., K) numbers of abnormal items at the same scores.

    Returns:
        (...) in [0, 1]; both classes must be present.
    """
    normal, abnormal = np.asarray(normal, np.float64), np.asarray(abnormal, np.float64)
    below = np.cumsum(normal, axis=-1) - normal / 2
    return (abnormal * below).sum(-1) / (abnormal.sum(-1) * normal.sum(-1))


def average_precision_from_counts(normal: npt.NDArray, abnormal: npt.NDArray) -> float:
    """Average precision = sum over descending scores of (recall step) * precision, without interpolation.

    Args:
        normal: (K,) numbers of normal items at K ascending distinct scores, none of them empty.
        abnormal: (K,) numbers of abnormal items at the same scores.

    Returns:
        A number in (0, 1]; both classes must be present.
    """
    steps = np.asarray(abnormal, np.float64)[::-1]
    true = np.cumsum(steps)
    false = np.cumsum(np.asarray(normal, np.float64)[::-1])
    return float((steps * true / (true + false)).sum() / true[-1])


def _checked(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, Bools]:
    raw, given = np.asarray(scores, np.float64), np.asarray(labels)
    if raw.ndim != 1 or raw.shape != given.shape:
        raise ValueError(f"scores and labels must be (N,), not {raw.shape} and {given.shape}")
    if not np.isfinite(raw).all():
        raise ValueError(f"{int((~np.isfinite(raw)).sum())} of {raw.size} anomaly scores are not finite")
    if not np.isin(given, (0, 1)).all():
        raise ValueError("labels must be 0 (normal) or 1 (abnormal)")
    return raw, given.astype(bool)


def _counts(scores: Floats, abnormal: Bools) -> tuple[Floats, npt.NDArray, npt.NDArray]:
    """Distinct ascending scores (K,), and how many normals and abnormals have each."""
    values, position = np.unique(scores, return_inverse=True)
    normals = np.bincount(position[~abnormal], minlength=values.size)
    return values, normals, np.bincount(position[abnormal], minlength=values.size)


def auroc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float | None:
    """Area under the ROC curve of (N,) scores, ties counting one half; None when a class is missing."""
    raw, abnormal = _checked(scores, labels)
    if abnormal.all() or not abnormal.any():
        return None
    return float(auroc_from_counts(*_counts(raw, abnormal)[1:]))


def average_precision(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float | None:
    """Average precision of (N,) scores; None when a class is missing."""
    raw, abnormal = _checked(scores, labels)
    if abnormal.all() or not abnormal.any():
        return None
    return average_precision_from_counts(*_counts(raw, abnormal)[1:])


def image_metrics(scores: npt.ArrayLike, labels: npt.ArrayLike, threshold: float) -> dict[str, float | int | None]:
    """Metrics of a test set, keyed as in `metrics.json`.

    Args:
        scores: (N,) raw anomaly scores, finite.
        labels: (N,) 0 normal, 1 abnormal.
        threshold: an image is decided abnormal iff its score > threshold.

    Returns:
        image_auroc, image_ap, image_f1, test_fpr, test_tpr, n_test_normal, n_test_abnormal. What needs a
        class that the test set lacks is None.

    Raises:
        ValueError: shapes differ, a label is neither 0 nor 1, or a score is not finite.
    """
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
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> ConfidenceInterval | None:
    """Percentile bootstrap interval of the AUROC, resampling normals and abnormals apart (Efron 1979).

    It covers the choice of test images only, not the spread over training seeds, and it collapses to a point
    when the classes are separated perfectly. None when a class is missing.
    """
    raw, abnormal = _checked(scores, labels)
    if abnormal.all() or not abnormal.any():
        return None
    _, normals, abnormals = _counts(raw, abnormal)
    n_normal, n_abnormal = int(normals.sum()), int(abnormals.sum())
    generator = np.random.default_rng(seed)
    areas, step = [], max(1, _BLOCK // normals.size)
    for done in range(0, replicates, step):  # blocks only bound the memory: each is drawn and ranked at once
        size = min(step, replicates - done)
        drawn_normals = generator.multinomial(n_normal, normals / n_normal, size)
        drawn_abnormals = generator.multinomial(n_abnormal, abnormals / n_abnormal, size)
        areas.append(auroc_from_counts(drawn_normals, drawn_abnormals))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(areas), (tail, 1 - tail))
    return ConfidenceInterval(float(low), float(high))


def threshold_table(
    scores: npt.ArrayLike, labels: npt.ArrayLike, thresholds: Iterable[float]
) -> list[dict[str, float | None]]:
    """What each threshold would decide: one row per threshold.

    Returns:
        Rows of threshold, accuracy_normal (= 1 - fpr), accuracy_abnormal (= tpr), f1, fpr, tpr. A rate of a
        class that is missing is None, and f1 is None unless both are present.
    """
    raw, abnormal = _checked(scores, labels)
    cuts = np.asarray(list(thresholds), np.float64)
    normals, abnormals = np.sort(raw[~abnormal]), np.sort(raw[abnormal])
    false = normals.size - np.searchsorted(normals, cuts, side="right")  # strictly above
    true = abnormals.size - np.searchsorted(abnormals, cuts, side="right")
    rows: list[dict[str, float | None]] = []
    for cut, fp, tp in zip(cuts.tolist(), false.tolist(), true.tolist(), strict=True):
        fpr = fp / normals.size if normals.size else None
        tpr = tp / abnormals.size if abnormals.size else None
        rows.append(
            {
                "threshold": cut,
                "accuracy_normal": None if fpr is None else 1 - fpr,
                "accuracy_abnormal": tpr,
                "f1": None if fpr is None or tpr is None else 2 * tp / (tp + fp + abnormals.size),
                "fpr": fpr,
                "tpr": tpr,
            }
        )
    return rows


def threshold_grid(scores: npt.ArrayLike, chosen: float, count: int = 50) -> Floats:
    """Thresholds worth comparing: `count` evenly spaced quantiles of (N,) scores, from lowest to highest, and the chosen one.

    Returns:
        Ascending and distinct; each but the chosen one is a score. Without scores, the chosen one alone.
    """
    raw = np.asarray(scores, np.float64)
    quantiles = np.quantile(raw, np.linspace(0, 1, count), method="nearest") if raw.size else raw
    return np.unique(np.append(quantiles, chosen))


def oracle_f1_threshold(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The threshold with the highest F1 on these labels; among equals the highest: fewest alarms.

    An oracle: it reads test labels, so nothing it yields may be compared with an honest threshold.

    Raises:
        ValueError: no image is abnormal, so that F1 has no meaning.
    """
    raw, abnormal = _checked(scores, labels)
    if not abnormal.any():
        raise ValueError("F1 needs at least one abnormal image")
    values, normals, abnormals = _counts(raw, abnormal)
    # Cut k lies just below values[k]: everything from values[k] upward is decided abnormal.
    false, true = np.cumsum(normals[::-1])[::-1], np.cumsum(abnormals[::-1])[::-1]
    f1 = 2 * true / (true + false + abnormal.sum())
    best = values.size - 1 - int(np.argmax(f1[::-1]))
    if best == 0:
        return float(np.nextafter(values[0], -np.inf))
    middle = values[best - 1] / 2 + values[best] / 2
    return float(middle if values[best - 1] <= middle < values[best] else values[best - 1])
