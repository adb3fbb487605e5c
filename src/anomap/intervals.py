"""How far a number measured on n images may lie from the truth: 95 % intervals that depend on n, also for 0 and for 1.

And how probable it is that n calibration images set a threshold that so many new images exceed.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.special import betaincinv, gammaln

_TAIL = 0.025  # left out at each end
_AREAS = np.linspace(0, 1, 100_001)


class ConfidenceInterval(NamedTuple):
    """Bounds of an interval."""

    low: float
    high: float


def rate_interval(count: int, of: int) -> ConfidenceInterval:
    """Exact interval of a rate of which `count` in `of` >= 1 were seen, by the binomial (Clopper & Pearson 1934)."""
    low = betaincinv(count, of - count + 1, _TAIL) if count else 0.0
    high = betaincinv(count + 1, of - count, 1 - _TAIL) if count < of else 1.0
    return ConfidenceInterval(float(low), float(high))


def chance_of_alarms(alarms: int, of: int, normals: int, rank: int) -> float:
    """P(at least `alarms` in `of` new images are above the `rank`-th smallest of `normals` others), all exchangeable.

    The number of alarms is BetaBinomial(of, normals + 1 - rank, rank), whatever the distribution of scores (Vovk 2012,
    "Conditional validity of inductive conformal predictors"): the binomial, averaged over the calibration sets that might
    have set the threshold. Its tail is a hypergeometric sum: the highest `alarms` + `normals` - `rank` of all images hold
    at most `normals` - `rank` calibration images. (`scipy.stats.betabinom.sf` is 1 - cdf, which ends at 1e-16.)
    """
    if alarms <= 0:
        return 1.0
    top, held = alarms + normals - rank, np.arange(normals - rank + 1)
    held = held[top - held <= of]

    def choose(n: int, k: Any) -> Any:
        return gammaln(n + 1) - gammaln(np.asarray(k) + 1) - gammaln(n - np.asarray(k) + 1)

    terms = choose(normals, held) + choose(of, top - held) - choose(normals + of, top)
    return float(min(1.0, np.exp(terms).sum()))


def area_interval(area: float, normals: int, abnormals: int, deviates: float) -> ConfidenceInterval:
    """Interval of an AUROC in [0, 1] from so many images of each class, both >= 1 (Newcombe 2006, method 5).

    The areas no further from the measured one than `deviates` of their own standard deviations, which are Hanley and
    McNeil's of 1982 at the mean size of the classes. Never a point, even where the classes are separated perfectly.
    """
    size = (normals + abnormals) / 2 - 1
    spread = 1 + size * (1 - _AREAS) / (2 - _AREAS) + size * _AREAS / (1 + _AREAS)
    variance = _AREAS * (1 - _AREAS) * spread / (normals * abnormals)
    near = _AREAS[(_AREAS - area) ** 2 <= deviates**2 * variance]
    return ConfidenceInterval(float(min(area, *near[:1])), float(max(area, *near[-1:])))
