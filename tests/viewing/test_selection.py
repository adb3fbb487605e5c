"""The images a person is shown first."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from anomap.runs.scores import ScoreRow
from anomap.viewing.selection import gallery_indices, worst_false_alarms, worst_misses


def _rows(pairs: list[tuple[int, float]], threshold: float = 0.5) -> list[ScoreRow]:
    return [ScoreRow.decide(f"{i}.png", label, "x", score, threshold) for i, (label, score) in enumerate(pairs)]


def test_worst_come_first_and_correct_ones_not_at_all() -> None:
    rows = _rows([(1, 0.4), (1, 0.1), (1, 0.9), (0, 0.6), (0, 0.8), (0, 0.2)])
    assert worst_misses(rows, 5) == [1, 0]
    assert worst_misses(rows, 1) == [1]
    assert worst_false_alarms(rows, 5) == [4, 3]


def test_of_equal_ones_the_first_come_first() -> None:
    rows = _rows([(1, 0.1), (1, 0.0), (1, 0.1), (0, 0.9), (0, 0.9)])
    assert (worst_misses(rows, 2), worst_false_alarms(rows, 1)) == ([1, 0], [3])


def test_gallery_shows_the_hardest_of_both_classes() -> None:
    scores, abnormal = np.arange(300) / 300, np.arange(300) % 2 == 1
    chosen = gallery_indices(scores, abnormal, 30)
    assert {1, 3, 19} <= set(chosen)  # lowest abnormal
    assert {298, 296, 280} <= set(chosen)  # highest normal
    assert chosen != gallery_indices(scores, abnormal, 30, seed=1)


@given(pairs=st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), max_size=60), limit=st.integers(1, 40))
def test_gallery_is_a_full_ascending_choice(pairs: list[tuple[int, float]], limit: int) -> None:
    scores, abnormal = np.array([score for _, score in pairs]), np.array([label for label, _ in pairs], bool)
    chosen = gallery_indices(scores, abnormal, limit)
    assert len(chosen) == min(limit, len(pairs))
    assert chosen == sorted(set(chosen))
    assert chosen == gallery_indices(scores, abnormal, limit)
