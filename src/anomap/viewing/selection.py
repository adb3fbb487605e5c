"""Which of many test images are worth a person's time."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from anomap.runs.scores import ABNORMAL, NORMAL, ScoreRow


def worst_misses(rows: Sequence[ScoreRow], count: int) -> list[int]:
    """Indices of the abnormal images decided normal, lowest score first."""
    missed = [(row.label, row.prediction) == (ABNORMAL, NORMAL) for row in rows]
    return lowest(np.array([row.score for row in rows]), np.array(missed, bool), count)


def worst_false_alarms(rows: Sequence[ScoreRow], count: int) -> list[int]:
    """Indices of the normal images decided abnormal, highest score first."""
    alarms = [(row.label, row.prediction) == (NORMAL, ABNORMAL) for row in rows]
    return lowest(-np.array([row.score for row in rows]), np.array(alarms, bool), count)


def lowest(scores: npt.NDArray[np.floating], among: npt.NDArray[np.bool_], count: int) -> list[int]:
    """Indices of the lowest scores (N,) among some (N,), in order; of equal ones the first come first."""
    indices = np.flatnonzero(among)
    return indices[np.argsort(scores[indices], kind="stable")[:count]].tolist()


def gallery_indices(
    scores: npt.NDArray[np.floating], abnormal: npt.NDArray[np.bool_], limit: int, seed: int = 0
) -> list[int]:
    """Choose at most `limit` images: those nearest to being mistaken of each class, and a random rest.

    A third are the lowest-scoring abnormals and a third the highest-scoring normals: the images that are
    mistakes at the threshold, or the first to become so when it moves. The rest are drawn at random (seeded)
    from all others, so that the gallery also shows the ordinary. Indices ascend.

    Args:
        scores: (N,).
        abnormal: (N,).
        limit: how many at most.
        seed: of the random rest.
    """
    if len(scores) <= limit:
        return list(range(len(scores)))
    chosen = [*lowest(scores, abnormal, limit // 3), *lowest(-scores, ~abnormal, limit // 3)]
    others = np.delete(np.arange(len(scores)), chosen)
    drawn = np.random.default_rng(seed).choice(others, limit - len(chosen), replace=False)
    return sorted([*chosen, *drawn.tolist()])
