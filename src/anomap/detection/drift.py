"""Has the world changed? What comes to a detector, compared with the normal images that calibrated it. Needs no torch.

Each quantity is compared by two tests that hold for every distribution and however few the calibration images are: ranks
(Mann-Whitney), and how many new images lie outside all of calibration's; the alarms by how many the promise allows. All
levels together are `LEVEL`, and a difference must also be large enough to matter.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from anomap.detection.image_statistics import STATISTICS
from anomap.intervals import chance_of_alarms

Column = npt.NDArray[np.float64]

LEVEL = 0.01  # of all tests together: how often undisturbed images are called changed, at most
ENOUGH = 10  # images that tests need; of 2 to 9, it is only said if all are far outside of calibration's
FAR = 2.0  # times calibration's range
_TESTS = 2 + 2 * len(STATISTICS)  # alarms, ranks of scores; ranks and range of each statistic
_CHANGE = 0.03  # of the mean: smaller changes do not matter
_APART = 0.2  # of P(new > calibration's) from 1/2
_OUTSIDE = 0.1  # more of the images outside of the range than expected
_ALARMS = (1.5, 0.02)  # times the promise, and more than it
_LEAST = 1e-3  # a mean below it is no unit

CAUSES = {  # what may have moved a statistic
    ("width", "height"): "another camera, crop or resolution?",
    ("brightness", "contrast"): "camera or light changed?",
    ("sharpness",): "focus, dirt on the lens or compression changed?",
}


@dataclass(frozen=True, eq=False)
class Reference:
    """What calibration keeps to compare with."""

    scores: Column  # (n,), of the normals that set the threshold
    statistics: Column  # (N, 5), of all calibration normals, see `STATISTICS`; NaN: not known
    threshold: float  # that they set

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, in few digits; NaN as None."""
        table = [[None if math.isnan(value) else float(f"{value:.5g}") for value in row] for row in self.statistics]
        return {"scores": [float(value) for value in self.scores], "statistics": table, "threshold": self.threshold}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Reference":
        """The inverse of `to_dict`."""
        table = np.array(values["statistics"], np.float64).reshape(-1, len(STATISTICS))
        return cls(np.array(values["scores"], np.float64), table, float(values["threshold"]))


@dataclass(frozen=True)
class Shift:
    """One quantity at calibration and now."""

    reference: float | None  # mean; None: unknown
    now: float | None
    change_percent: float | None  # of the mean
    above: float | None  # P(a new image's is above a calibration image's); 1/2 of unchanged images
    outside: float | None  # share of the images outside of calibration's range
    p_value: float | None  # None: too few images for a test
    changed: bool

    @property
    def verdict(self) -> str:
        """In words."""
        if self.now is None or self.reference is None:
            return "unknown"
        if self.changed:
            return "changed"
        return "too few images" if self.p_value is None else "as at calibration"


@dataclass(frozen=True)
class Drift:
    """What `DriftMonitor.drift` says of the images that came so far."""

    images: int
    alarms: int
    promised: float | None  # share of alarms, on average over calibration sets; None without calibration images
    alarms_p_value: float | None  # of at least so many, if the promise holds; None: no promise
    improbable: bool  # more alarms than the promise lets one believe, and enough of them to matter
    scores: Shift
    statistics: dict[str, Shift]
    own_threshold: bool = False  # not the one that calibration set

    @property
    def changed(self) -> bool:
        """Whether anything is to be said."""
        return self.improbable or self.scores.changed or bool(self.moved)

    @property
    def moved(self) -> list[str]:
        """The statistics that have changed, the most changed first."""
        found = [name for name, shift in self.statistics.items() if shift.changed]
        return sorted(found, key=lambda name: -abs(self.statistics[name].change_percent or 0))

    @property
    def cause(self) -> str:
        """What moved, and the likely cause; empty if no statistic moved."""
        moved = self.moved
        if not moved:
            return ""
        # a change of size moves sharpness; light moves contrast, and so does blur: what moved most is nearest to the cause
        first = next((name for name in moved if name in ("width", "height")), moved[0])
        cause = next(cause for names, cause in CAUSES.items() if first in names)
        return f"{cause} ({', '.join(f'{name} {self.statistics[name].change_percent:+.0f} %' for name in moved)})"

    @property
    def rate(self) -> str:
        """How many alarms, beside how many were promised."""
        share = f"{percent(self.alarms / max(1, self.images))} alarms"
        if self.promised is None:
            return share
        return f"{share} where {percent(self.promised)} was {'to be expected' if self.own_threshold else 'promised'}"

    @property
    def text(self) -> str:
        """One line for people; empty if nothing has changed."""
        if not self.changed:
            return ""
        few = f" ({self.images} images)" if self.images < ENOUGH else ""
        advice = "recalibrate with anomap-calibrate or retrain"
        if self.moved:
            many = self.alarms_p_value is not None and self.alarms_p_value < LEVEL
            rate = self.rate if many else f"images are not as at calibration ({self.rate})"
            return f"{rate}{few}: {self.cause}; {advice}"
        if self.improbable:
            return (
                f"{self.rate}{self._unmoved}: more defects than usual, or a change that these statistics do not see; look at "
                f"some of them: if they are good, {advice}"
            )
        higher = (self.scores.above or 0) > 0.5
        what = "more alarms will follow" if higher else "defects may be missed"
        return (
            f"scores are {'higher' if higher else 'lower'} than at calibration ({self.rate}){self._unmoved}: a change that these "
            f"statistics do not see, and {what}; look at some images: if they are good, {advice}"
        )

    @property
    def _unmoved(self) -> str:
        known = [name for name, shift in self.statistics.items() if shift.now is not None]
        return f", while {', '.join(known)} are as at calibration" if known else ""

    def to_dict(self) -> dict[str, Any]:
        """What `drift.json` holds: plain containers."""
        quantities = {"scores": self.scores, **self.statistics}
        return {
            "changed": self.changed,
            "text": self.text,
            "images": self.images,
            "alarms": self.alarms,
            "alarm_rate": self.alarms / self.images if self.images else None,
            "promised_rate": self.promised,
            "alarms_p_value": self.alarms_p_value,
            "alarms_improbable": self.improbable,
            "level": LEVEL,
            **{name: {**asdict(shift), "verdict": shift.verdict} for name, shift in quantities.items()},
        }


def percent(share: float) -> str:
    """Two digits, all of whole per cents."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


class DriftMonitor:
    """Takes scores and statistics of images as they come, in constant memory, and says whether they are calibration's."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self.images = self.alarms = 0
        self.threshold = self.reference.threshold
        self._scores = _Comparison(self.reference.scores)
        self._statistics = [_Comparison(column) for column in self.reference.statistics.T]

    def observe(self, scores: npt.ArrayLike, statistics: npt.ArrayLike, threshold: float | None = None) -> None:
        """Scores (B,) and statistics (B, 5) of new images, NaN where unknown; `threshold` if it is not calibration's."""
        given = np.asarray(scores, np.float64).reshape(-1)
        self.threshold = self.reference.threshold if threshold is None else threshold
        self.images += len(given)
        self.alarms += int((given > self.threshold).sum())
        self._scores.add(given)
        table = np.atleast_2d(np.asarray(statistics, np.float64))
        for comparison, column in zip(self._statistics, table.T, strict=False):
            comparison.add(column)

    def drift(self, looks: int | None = None) -> Drift:
        """Compare what came so far. For the `looks`-th look (1, 2, ...) at one stream, all looks share `LEVEL`."""
        level = LEVEL / _TESTS / (1 if looks is None else looks * (looks + 1))
        own, normals = self.reference, len(self.reference.scores)
        rank = int((own.scores <= self.threshold).sum())
        promised = p_value = None
        if rank:
            promised = (normals + 1 - rank) / (normals + 1)
            p_value = chance_of_alarms(self.alarms, self.images, normals, rank)
        improbable = (
            promised is not None
            and p_value is not None
            and self.images >= ENOUGH
            and p_value < level
            and self.alarms / self.images >= max(_ALARMS[0] * promised, promised + _ALARMS[1])
        )
        shifts: dict[str, Shift] = dict(zip(STATISTICS, (c.shift(level) for c in self._statistics), strict=False))
        scores = self._scores.shift(level, of_scores=True)
        own_threshold = self.threshold != own.threshold
        return Drift(self.images, self.alarms, promised, p_value, improbable, scores, shifts, own_threshold)


class _Comparison:
    """New values of one quantity beside calibration's, in constant memory: sums suffice."""

    def __init__(self, reference: Column) -> None:
        self.known = np.sort(reference[np.isfinite(reference)])
        self.count, self.total, self.ranks, self.outside, self.far = 0, 0.0, 0.0, 0, 0
        if len(self.known):
            low, high, self.mean = float(self.known[0]), float(self.known[-1]), float(self.known.mean())
            least = _CHANGE * abs(self.mean)
            far = max(FAR * (high - low), least)
            self.range, self.far_range = (low - least, high + least), (low - far, high + far)

    def add(self, values: Column) -> None:
        values = values[np.isfinite(values)]
        if not len(self.known) or not len(values):
            return
        self.count += len(values)
        self.total += float(values.sum())
        # of each, how many of calibration's it is above, and half of those that it equals
        self.ranks += float(sum(np.searchsorted(self.known, values, side).sum() for side in ("left", "right"))) / 2
        self.outside += int(((values < self.range[0]) | (values > self.range[1])).sum())
        self.far += int(((values < self.far_range[0]) | (values > self.far_range[1])).sum())

    def shift(self, level: float, of_scores: bool = False) -> Shift:
        """Compare; of scores, whose unit and upper end have other tests, only the ranks count."""
        normals = len(self.known)
        if not normals or not self.count:
            return Shift(self.mean if normals else None, None, None, None, None, None, False)
        now, above, outside = self.total / self.count, self.ranks / (normals * self.count), self.outside / self.count
        change = (now - self.mean) / max(abs(self.mean), _LEAST)
        percent = None if of_scores else 100 * change
        if self.count < ENOUGH:
            changed = not of_scores and normals >= ENOUGH and self.far == self.count > 1
            return Shift(self.mean, now, percent, above, outside, None, changed)
        ranks = _mann_whitney(self.ranks, normals, self.count)
        if of_scores:
            return Shift(self.mean, now, None, above, outside, ranks, ranks < level and abs(above - 0.5) >= _APART)
        ends = chance_of_alarms(self.outside, self.count, normals, normals - 1) if normals > 1 else 1.0
        moved = ranks < level and abs(above - 0.5) >= _APART and abs(change) >= _CHANGE
        left = ends < level and outside >= 2 / (normals + 1) + _OUTSIDE
        return Shift(self.mean, now, percent, above, outside, min(1.0, 2 * ranks, 2 * ends), moved or left)


def _mann_whitney(ranks: float, n: int, m: int) -> float:
    """Two-sided, by the normal approximation without a correction for ties: both err towards saying nothing."""
    distance = max(0.0, abs(ranks - n * m / 2) - 0.5)
    return float(2 * ndtr(-distance / math.sqrt(n * m * (n + m + 1) / 12)))
