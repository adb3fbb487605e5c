"""The axis of scores: straight for what is usual, and useful at the decision whatever lies far away."""

import numpy as np
import pytest

from anomap.viewing.axis import score_axis

NORMAL = np.arange(300) < 200


def scores(far: float, centre: float = 0.0, scale: float = 1.0) -> np.ndarray:
    generator = np.random.default_rng(0)
    return centre + scale * np.append(generator.normal(size=200), generator.normal(far, far / 5, size=100))


def test_usual_scores_lie_on_a_straight_axis() -> None:
    axis = score_axis(scores(6.0), NORMAL, 2.5)
    assert axis.width is None
    assert axis.place([1.0, 2.0]).tolist() == [1.0, 2.0]


@pytest.mark.parametrize(("centre", "scale"), [(0.0, 1.0), (1000.0, 1.0), (1e-6, 1e-8)])
def test_the_decision_keeps_its_room_beside_far_scores(centre: float, scale: float) -> None:
    values, threshold = scores(50_000.0, centre, scale), centre + 3 * scale
    axis = score_axis(values, NORMAL, threshold)
    left, at, right = axis.place([axis.low, threshold, axis.high])
    assert 0.15 < (at - left) / (right - left) < 0.5
    assert axis.low < values.min() < values.max() < axis.high
    assert axis.score(axis.place(values)) == pytest.approx(values, rel=1e-9)
    ticks = axis.ticks()
    assert 5 <= len(ticks) <= 9
    assert ticks == sorted(set(ticks))
    assert axis.low <= ticks[0] < threshold < ticks[-1] <= axis.high


def test_equal_normals_and_no_normals() -> None:
    assert score_axis(np.array([1.0, 1.0, 9e9]), np.array([True, True, False]), 3.0).width == 2.0
    assert score_axis(np.array([1.0, 1.0]), np.array([True, True]), 1.0).width is None
    assert score_axis(np.array([1.0, 2.0, 3.0]), np.zeros(3, bool), None).width is None
