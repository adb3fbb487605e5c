"""Where scores lie on an axis: straight, unless some lie so far away that the decision would be squashed."""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

_OUTLIER_REACH = 0.5  # a tail that reaches this many times further than the bulk is gathered at the end
_STRAIGHT = 40  # an axis up to so many times as long as the middle half of the normal scores stays straight


@dataclass(frozen=True)
class ScoreAxis:
    """An axis of anomaly scores; the places on it are in a unit of its own."""

    low: float  # scores at its ends
    high: float
    centre: float = 0.0
    width: float | None = None  # of the nearly straight part around the centre, logarithmic beyond; None: all straight

    def place(self, scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Scores -> places."""
        values = np.asarray(scores, np.float64)
        return values if self.width is None else np.arcsinh((values - self.centre) / self.width)

    def score(self, places: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The inverse of `place`."""
        values = np.asarray(places, np.float64)
        return values if self.width is None else self.centre + self.width * np.sinh(values)

    def ticks(self, count: int = 8) -> list[float]:
        """About so many round scores at even distances, ascending."""
        places, half = np.linspace(self.place(self.low), self.place(self.high), count + 1, retstep=True)
        found = set()
        for score, step in zip(
            self.score(places), self.score(places + half / 2) - self.score(places - half / 2), strict=True
        ):
            power = math.floor(math.log10(step))
            found.add(round(float(score), -power) + 0.0)  # no -0
        return sorted(tick for tick in found if self.low <= tick <= self.high)


def score_axis(scores: npt.NDArray[np.float64], normal: npt.NDArray[np.bool_], threshold: float | None) -> ScoreAxis:
    """An axis for scores (N,), N >= 1, of which some are of normal images, and for the threshold."""
    straight = ScoreAxis(*robust_range(scores, threshold))
    first, centre, last = np.quantile(scores[normal] if normal.any() else scores, (0.25, 0.5, 0.75))
    width = float(last - first) or abs((centre if threshold is None else threshold) - centre)
    if straight.high - straight.low <= _STRAIGHT * width or not width:
        return straight
    bent = replace(straight, centre=float(centre), width=width)
    low, high = robust_range(bent.place(scores), None if threshold is None else float(bent.place(threshold)))
    return replace(bent, low=float(bent.score(low)), high=float(bent.score(high)))


def robust_range(scores: npt.NDArray[np.float64], threshold: float | None = None) -> tuple[float, float]:
    """The range, never empty, in which to draw (N,) scores, N >= 1, and the threshold.

    The bulk lies between the 1 % and 99 % quantiles; an end further away than `_OUTLIER_REACH` bulk widths is cut.
    """
    low, high = np.quantile(scores, (0.01, 0.99))
    reach = _OUTLIER_REACH * (high - low)
    start, stop = max(scores.min(), low - reach), min(scores.max(), high + reach)
    if threshold is not None:
        start, stop = min(start, threshold), max(stop, threshold)
    margin = 0.03 * (stop - start) or 0.5 * max(abs(start), 1e-6)
    return float(start - margin), float(stop + margin)
