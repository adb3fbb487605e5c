"""Intervals: those of the literature, and how often they hold what they should."""

import numpy as np
import pytest
from scipy.stats import beta, betabinom, binom, binomtest

from anomap.intervals import area_interval, chance_of_alarms, rate_interval


@pytest.mark.parametrize(("count", "of"), [(0, 1), (1, 1), (3, 60), (0, 60), (60, 60), (499, 1000)])
def test_the_exact_interval_is_scipys(count: int, of: int) -> None:
    expected = binomtest(count, of).proportion_ci(method="exact")
    assert rate_interval(count, of) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.05, 0.5, 1.0])
def test_it_holds_the_truth_at_least_as_often_as_it_says(rate: float) -> None:
    counts = np.arange(41)
    holds = [low <= rate <= high for low, high in (rate_interval(int(count), 40) for count in counts)]
    assert binom.pmf(counts, 40, rate)[holds].sum() >= 0.95 - 1e-9


def test_an_area_of_one_is_worth_what_its_images_are() -> None:
    """One pair of images is one trial: Wilson's interval, 1 / (1 + z^2) to 1."""
    lows = [area_interval(1.0, n, n, 1.96).low for n in (1, 10, 100, 1000)]
    assert lows == sorted(lows)
    assert lows[0] == pytest.approx(1 / (1 + 1.96**2), abs=1e-4)
    assert lows[-1] > 0.997
    for area in (0.0, 0.3, 0.9, 1.0):
        low, high = area_interval(area, 30, 50, 1.96)
        assert low <= area <= high
        mirrored = area_interval(1 - area, 30, 50, 1.96)
        assert (low, high) == pytest.approx((1 - mirrored.high, 1 - mirrored.low), abs=3e-5)
        assert high - low > 0.02


@pytest.mark.parametrize(
    ("alarms", "of", "normals", "rank"),
    [
        (19, 20, 19, 19),
        (3, 20, 19, 19),
        (5, 50, 100, 95),
        (1, 7, 10, 10),
        (0, 5, 5, 5),
        (7, 7, 3, 1),
        (90, 1000, 38, 36),
    ],
)
def test_the_chance_of_alarms_is_the_beta_binomials(alarms: int, of: int, normals: int, rank: int) -> None:
    expected = betabinom.sf(alarms - 1, of, normals + 1 - rank, rank)
    assert chance_of_alarms(alarms, of, normals, rank) == pytest.approx(expected, rel=1e-6)


def test_the_chance_of_alarms_is_that_of_drawn_images() -> None:
    rng = np.random.default_rng(0)
    drawn = rng.random((20_000, 19 + 30))
    counts = (drawn[:, 19:] > np.sort(drawn[:, :19], 1)[:, [17]]).sum(1)
    for alarms in (1, 3, 8):
        assert chance_of_alarms(alarms, 30, 19, 18) == pytest.approx((counts >= alarms).mean(), abs=0.01)
    # few terms, and no overflow, of any number of images: in the end the rate alone is uncertain
    assert chance_of_alarms(10**6, 10**7, 200, 190) == pytest.approx(beta.sf(0.1, 11, 190), rel=1e-3)
