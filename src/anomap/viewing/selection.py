"""Which of many test images are worth a person's time."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from anomap.runs.scores import ABNORMAL, NORMAL, ScoreRow

GALLERY_LIMIT = 120  # images in a report


def worst_misses(rows: Sequence[ScoreRow], count: int) -> list[int]:
    """Indices of the abnormal images decided normal, lowest score first."""
    return _worst(rows, (ABNORMAL, NORMAL), 1, count)


def worst_false_alarms(rows: Sequence[ScoreRow], count: int) -> list[int]:
    """Indices of the normal images decided abnormal, highest score first."""
    return _worst(rows, (NORMAL, ABNORMAL), -1, count)


def _worst(rows: Sequence[ScoreRow], kind: tuple[str, str], sign: int, count: int) -> list[int]:
    mistaken = np.array([(row.label, row.prediction) == kind for row in rows], bool)
    return lowest(sign * np.array([row.score for row in rows]), mistaken, count)


def lowest(scores: npt.NDArray[np.floating], among: npt.NDArray[np.bool_], count: int) -> list[int]:
    """Indices of the lowest scores (N,) among some (N,), in order; of equal ones the first come first."""
    indices = np.flatnonzero(among)
    return indices[np.argsort(scores[indices], kind="stable")[:count]].tolist()


def gallery_indices(
    scores: npt.NDArray[np.floating], abnormal: npt.NDArray[np.bool_], limit: int, seed: int = 0
) -> list[int]:
    """Ascending indices of at most `limit` of N images: those nearest to a mistake, and a random (seeded) rest.

    A third are the lowest-scoring abnormals and a third the highest-scoring normals: mistakes at the threshold, or the
    first to become so when it moves.
    """
    if len(scores) <= limit:
        return list(range(len(scores)))
    chosen = [*lowest(scores, abnormal, limit // 3), *lowest(-scores, ~abnormal, limit // 3)]
    others = np.delete(np.arange(len(scores)), chosen)
    drawn = np.random.default_rng(seed).choice(others, limit - len(chosen), replace=False)
    return sorted([*chosen, *drawn.tolist()])
