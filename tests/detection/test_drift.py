"""The monitor of drift: it is quiet on undisturbed images, however few and whatever their distribution, and it sees changes."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from anomap.detection.drift import ENOUGH, Drift, DriftMonitor, Reference
from anomap.detection.image_statistics import STATISTICS

Draw = Callable[[np.random.Generator, int], np.ndarray]

DRAWS: dict[str, Draw] = {
    "normal": lambda rng, count: rng.standard_normal(count),
    "heavy": lambda rng, count: rng.standard_t(2, count),
    "skewed": lambda rng, count: np.exp(rng.standard_normal(count)),
    "clustered": lambda rng, count: rng.standard_normal(count) + 4 * rng.integers(0, 2, count),
    "rounded": lambda rng, count: np.rint(2 * rng.standard_normal(count)),  # with many ties
}


def statistics(rng: np.random.Generator, draw: Draw, count: int) -> np.ndarray:
    """(count, 5), of photographs of one size."""
    columns = [0.5 * np.maximum(0.02, 1 + 0.15 * draw(rng, count)) for _ in STATISTICS[:3]]
    return np.stack([*columns, np.full(count, 640.0), np.full(count, 480.0)], 1)


def compared(
    seed: int,
    calibration: int,
    new: int,
    name: str = "normal",
    scores: float = 0.0,
    of_them: float = 1.0,
    change: Callable[[np.ndarray], np.ndarray] = lambda table: table,
) -> Drift:
    """Calibration normals and new images of one distribution; the latter's scores are moved, `of_them` also changed."""
    rng, draw = np.random.default_rng(seed), DRAWS[name]
    own = np.sort(draw(rng, (calibration + 1) // 2))  # the others set the scale
    threshold = own[min(len(own), int(np.ceil((len(own) + 1) * 0.95))) - 1]
    monitor = DriftMonitor(Reference(own, statistics(rng, draw, calibration), float(threshold)))
    table, changed = statistics(rng, draw, new), round(of_them * new)
    table[:changed] = change(table[:changed])
    monitor.observe(draw(rng, new) + scores, table)
    return monitor.drift()


def brighter(table: np.ndarray) -> np.ndarray:
    return table * [1.3, 1, 1, 1, 1]


@pytest.mark.thorough
@pytest.mark.parametrize("name", DRAWS)
def test_undisturbed_images_are_called_changed_at_most_once_in_a_hundred(name: str) -> None:
    """Of every number of images that there is; each pair alone stays below the level, too, but for the chance of 150 draws."""
    pairs = [(n, m) for n in (10, 20, 80, 200) for m in (2, 5, 10, 30, 300)]
    said = [[compared(1000 * seed + n + m, n, m, name).changed for seed in range(150)] for n, m in pairs]
    assert np.mean(said) <= 0.005
    assert max(map(np.mean, said)) <= 0.04


@pytest.mark.parametrize(
    ("calibration", "new", "least"), [(20, 10, 0.5), (20, 20, 0.8), (40, 20, 0.9), (200, 20, 0.95), (20, 200, 0.95)]
)
def test_a_change_of_two_standard_deviations_is_seen(calibration: int, new: int, least: float) -> None:
    found = [compared(seed, calibration, new, change=brighter) for seed in range(100)]
    assert np.mean([drift.statistics["brightness"].changed for drift in found]) >= least
    assert np.mean([drift.statistics["sharpness"].changed for drift in found]) <= 0.02


def test_a_change_of_some_of_the_images_is_seen() -> None:
    """Their mean and ranks hardly move: it is the range that tells."""
    found = [
        compared(seed, 100, 200, of_them=0.25, change=lambda table: table * [2, 1, 1, 1, 1]).statistics["brightness"]
        for seed in range(50)
    ]
    assert np.mean([shift.changed for shift in found]) >= 0.95


def test_a_change_too_small_to_matter_is_none() -> None:
    monitor = DriftMonitor(Reference(np.arange(100.0), np.full((100, 5), 0.5), 95))
    monitor.observe(np.arange(100.0), np.full((100, 5), 0.51))
    found = monitor.drift()
    assert found.statistics["brightness"].p_value == pytest.approx(0, abs=1e-9)
    assert not found.changed
    assert found.text == ""


def test_the_line_says_rate_cause_change_and_what_to_do() -> None:
    found = compared(0, 100, 20, scores=5.0, change=brighter)
    assert found.improbable
    assert found.text.startswith("100 % alarms where 3.9 % was promised: camera or light changed? (brightness +")
    assert found.text.endswith("%); recalibrate with anomap-calibrate or retrain")
    assert "\n" not in found.text


@pytest.mark.parametrize(
    ("factors", "cause"),
    [
        ([1, 1, 0.5, 1, 1], "focus, dirt on the lens or compression changed? (sharpness -"),
        ([1, 1, 0.5, 2, 2], "another camera, crop or resolution? ("),
        ([1, 1.8, 0.6, 1, 1], "camera or light changed? (contrast +"),
        ([1, 0.7, 0.3, 1, 1], "focus, dirt on the lens or compression changed? (sharpness -"),
    ],
)
def test_the_cause_is_of_what_changed(factors: list[float], cause: str) -> None:
    assert cause in compared(0, 100, 50, change=lambda table: table * factors).text


def test_many_defects_are_no_change_of_camera() -> None:
    found = compared(0, 100, 30, scores=5.0)
    assert not found.moved
    assert (
        "while brightness, contrast, sharpness, width, height are as at calibration: more defects than usual"
        in found.text
    )
    assert "camera" not in found.text


def test_lower_scores_are_said_to_miss_defects() -> None:
    found = compared(0, 100, 50, scores=-2.0)
    assert not found.improbable
    assert "scores are lower than at calibration" in found.text
    assert "defects may be missed" in found.text


def test_of_few_images_only_what_is_far_outside_is_said() -> None:
    far = [compared(seed, 20, 3, change=lambda table: table * [5, 1, 1, 1, 1]) for seed in range(20)]
    assert all(drift.moved == ["brightness"] and "(3 images)" in drift.text for drift in far)
    assert not any(compared(seed, 20, 3, scores=9, change=brighter).changed for seed in range(20))
    assert not compared(0, 20, 1, change=lambda table: table * 9).changed  # that is about an image, not the world
    assert compared(0, 20, 3).statistics["contrast"].verdict == "too few images"


def test_it_is_the_same_in_whatever_pieces_images_come() -> None:
    rng = np.random.default_rng(0)
    reference = Reference(np.sort(rng.random(30)), rng.random((40, 5)), 0.9)
    scores, table = rng.random(100), rng.random((100, 5))
    whole, pieces = DriftMonitor(reference), DriftMonitor(reference)
    whole.observe(scores, table)
    for start in range(0, 100, 7):
        pieces.observe(scores[start : start + 7], table[start : start + 7])
    pieces.observe([], np.zeros((0, 5)))
    one, other = whole.drift().to_dict(), pieces.drift().to_dict()
    for name in ("scores", *STATISTICS):
        assert one.pop(name) == pytest.approx(other.pop(name))
    assert one == other
    pieces.forget()
    assert (pieces.images, pieces.drift().changed) == (0, False)


def test_what_is_not_known_is_left_out() -> None:
    found = compared(0, 50, 30, scores=9.0, change=lambda table: np.full_like(table, np.nan))
    assert found.improbable
    assert found.statistics["width"].verdict == "unknown"
    assert "while" not in found.text
    rows_without = DriftMonitor(Reference(np.arange(20.0), np.ones((20, 5)), 19))
    rows_without.observe(np.arange(20.0), np.zeros((20, 0)))  # scored by an older anomap
    assert not rows_without.drift().changed


def test_without_calibration_images_nothing_is_said() -> None:
    monitor = DriftMonitor(Reference(np.zeros(0), np.zeros((0, 5)), 1.0))
    monitor.observe(np.full(20, 5.0), np.ones((20, 5)))
    found = monitor.drift()
    assert (found.promised, found.alarms, found.changed) == (None, 20, False)


def test_another_threshold_promises_nothing_but_lets_expect_something() -> None:
    monitor = DriftMonitor(Reference(np.arange(99.0), np.ones((99, 5)), 94))
    monitor.observe(np.full(20, 98.5), np.ones((20, 5)), threshold=89)
    assert monitor.drift().promised == pytest.approx(0.1)
    assert "100 % alarms where 10 % was to be expected" in monitor.drift().text


def test_looking_often_raises_no_more_false_alarms() -> None:
    """All looks at one stream together: Σ 1 / (k (k + 1)) = 1."""
    alarms = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        draw = DRAWS["normal"]
        own = np.sort(draw(rng, 20))
        monitor = DriftMonitor(Reference(own, statistics(rng, draw, 20), float(own[-1])))
        for look in range(1, 6):
            count = ENOUGH * 2 ** (look - 1) - monitor.images
            monitor.observe(draw(rng, count), statistics(rng, draw, count))
            if monitor.drift(looks=look).changed:
                alarms += 1
                break
    assert alarms / 200 <= 0.02


def test_it_is_plain_json_and_a_reference_comes_back() -> None:
    told = json.loads(json.dumps(compared(0, 20, 12).to_dict(), allow_nan=False))
    assert {"changed", "alarm_rate", "promised_rate", "alarms_p_value", "scores", *STATISTICS} <= told.keys()
    reference = Reference(np.array([0.1, 2 / 3]), np.array([[0.5, 0.1, 2, np.nan, np.nan]]), 1 / 3)
    again = Reference.from_dict(json.loads(json.dumps(reference.to_dict(), allow_nan=False)))
    np.testing.assert_allclose(again.scores, reference.scores)
    np.testing.assert_allclose(again.statistics, reference.statistics)
    assert again.threshold == reference.threshold
