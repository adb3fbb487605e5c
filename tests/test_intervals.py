"""Intervals: those of the literature, and how often they hold what they should."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from anomap.intervals import area_interval, rate_interval


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
