"""Which of many test images are worth a person's time."""

from collections.abc import Sequence

import numpy as np

from anomap.results import ABNORMAL, NORMAL, ScoreRow


def worst_misses(rows: Sequence[ScoreRow], count: int) -> list[int]:
    """Indices of the abnormal images decided normal, lowest score first."""
    missed = [i for i, row in enumerate(rows) if (row.label, row.prediction) == (ABNORMAL, NORMAL)]
    return sorted(missed, key=lambda i: rows[i].score)[:count]


def worst_false_alarms(rows: Sequence[ScoreRow], count: int) -> list[int]:
    """Indices of the normal images decided abnormal, highest score first."""
    alarms = [i for i, row in enumerate(rows) if (row.label, row.prediction) == (NORMAL, ABNORMAL)]
    return sorted(alarms, key=lambda i: -rows[i].score)[:count]


def gallery_indices(rows: Sequence[ScoreRow], limit: int, seed: int = 0) -> list[int]:
    """Choose at most `limit` images: those nearest to being mistaken of each class, and a random rest.

    A third are the lowest-scoring abnormals and a third the highest-scoring normals: the images that are
    mistakes at the threshold, or the first to become so when it moves. The rest are drawn at random (seeded)
    from all others, so that the gallery also shows the ordinary. Indices ascend.
    """
    if len(rows) <= limit:
        return list(range(len(rows)))
    third = limit // 3
    by_score = sorted(range(len(rows)), key=lambda i: rows[i].score)
    chosen = {
        *[i for i in by_score if rows[i].label == ABNORMAL][:third],
        *[i for i in reversed(by_score) if rows[i].label == NORMAL][:third],
    }
    others = [i for i in range(len(rows)) if i not in chosen]
    drawn = np.random.default_rng(seed).choice(others, limit - len(chosen), replace=False)
    return sorted(chosen | set(drawn.tolist()))
