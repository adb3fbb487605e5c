"""Thresholds: how the raw scores of calibration normals (never test images) become a decision.

`conf/threshold/<strategy>.yaml` names a strategy and its number; `resolve_threshold` makes the `Threshold`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from anomap.detection.metrics import oracle_f1_threshold
from anomap.errors import UserError

STRATEGIES = ("quantile", "gaussian", "manual", "oracle_f1")

# (n + 1) * q is meant exactly, but 100 * 0.55 is 55.00000000000001 in floating point.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Threshold:
    """A threshold with its origin."""

    value: float  # an image is abnormal iff its score is above it
    strategy: str
    calibration_fpr: (
        float | None
    )  # share of the normals that set it above it: biased, unlike `test_fpr`; None without any
    note: str = ""  # one sentence for the user
    promised_fpr: float | None = None  # bound on P(a new normal image is above), see `conformal_rank`

    def decide(self, scores: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """True = abnormal, for scores of any shape."""
        return np.asarray(scores, np.float64) > self.value


def share_of(count: int, share: float) -> int:
    """How many of so many images a share of them is, rounded up; never all."""
    return min(count - 1, math.ceil(share * count - _ROUNDING))


def conformal_rank(n: int, quantile: float) -> int:
    """K = min(n, ceil((n + 1) * quantile)): the k-th smallest of n >= 1 calibration scores is the threshold.

    For every n and distribution, if a new normal image is exchangeable with the n images, then
    P(score > threshold) <= 1 - k / (n + 1) over the joint draw of the n images and the new one (split conformal
    prediction: Vovk et al., "Algorithmic Learning in a Random World", 2005; Angelopoulos & Bates, arXiv:2107.07511,
    section 1). Nothing that enters the score may have been fitted to the n images. That is at most 1 - quantile if
    n >= quantile / (1 - quantile), 19 images for 0.95; with fewer, the largest score promises 1 / (n + 1).
    """
    return min(n, max(1, math.ceil((n + 1) * quantile - _ROUNDING)))


def quantile_threshold(scores: npt.NDArray[np.float64], quantile: float) -> tuple[float, str]:
    """The order statistic of `conformal_rank` for scores (N,), and a note if N is too small for `quantile`."""
    n = scores.size
    k = conformal_rank(n, quantile)
    value = float(np.partition(scores, k - 1)[k - 1])
    needed = math.ceil(quantile / (1 - quantile) - _ROUNDING)
    note = (
        f"{n} calibration image(s) set the threshold, too few to promise a false-positive rate of {1 - quantile:.3g} "
        f"({needed} are needed): it is their largest score, which promises {1 / (n + 1):.3g}"
    )
    return value, note if n < needed else ""


def gaussian_threshold(scores: npt.NDArray[np.float64], quantile: float) -> tuple[float, str]:
    """Mean + z(quantile) * sample standard deviation of scores (N,), N >= 2, and a note if they are plainly not Gaussian.

    It can lie above the largest calibration score, which a quantile of few images cannot.
    """
    value = float(scores.mean() + NormalDist().inv_cdf(quantile) * scores.std(ddof=1))
    expected, realised = 1 - quantile, float((scores > value).mean())
    note = (
        f"{realised:.3g} of the calibration images lie above a threshold meant for {expected:.3g}: "
        "the scores are not Gaussian, prefer threshold=quantile"
    )
    chance = 3 * math.sqrt(expected * quantile / scores.size)  # three standard errors of a proportion
    return value, note if realised > expected + chance else ""


def resolve_threshold(
    config: Mapping[str, Any],
    calibration_scores: npt.ArrayLike,
    test_scores: npt.ArrayLike | None = None,
    test_labels: npt.ArrayLike | None = None,
    contamination: float = 0.0,
) -> Threshold:
    """Make the threshold that `config` asks for: `strategy`, and `quantile` (quantile, gaussian) or `value` (manual).

    Only oracle_f1 reads the test scores (M,) and labels (M,); it and manual do without calibration scores (N,). With
    `contamination`, that share of the highest calibration scores is taken for those of abnormal images: the threshold is
    that of the others, and the promise that which holds if all of them are normal, so it is weaker. UserError for an
    unknown strategy, an impossible number, or too few images; ValueError if a score is not finite.
    """
    name = config.get("strategy")
    if name not in STRATEGIES:
        raise UserError(f"threshold.strategy={name}: unknown; choose one of {', '.join(STRATEGIES)}")
    scores = np.asarray(calibration_scores, np.float64).reshape(-1)
    if bad := int((~np.isfinite(scores)).sum()):
        raise ValueError(f"{bad} of {scores.size} calibration scores are not finite")
    promised = None
    if name == "manual":
        value, note = _number(config, "value"), ""
    elif name == "oracle_f1":
        if test_scores is None or test_labels is None or not np.any(np.asarray(test_labels)):
            raise UserError(
                "threshold=oracle_f1: needs a test set with abnormal images; choose another, such as threshold=quantile"
            )
        value = oracle_f1_threshold(test_scores, test_labels)
        note = "chosen with the test labels: an upper bound, not a result"
    else:
        quantile = _number(config, "quantile")
        if not 0 < quantile < 1:
            raise UserError(
                f"threshold.quantile={quantile:g}: must lie between 0 and 1, both excluded; 0.95 aims at 5 % false alarms"
            )
        rule, minimum = (quantile_threshold, 1) if name == "quantile" else (gaussian_threshold, 2)
        if scores.size < minimum:
            raise UserError(
                f"threshold={name}: needs at least {minimum} calibration images, not {scores.size}; "
                "add normal images or give threshold=manual threshold.value=NUMBER"
            )
        doubted = share_of(scores.size, contamination) if contamination else 0
        trusted = np.sort(scores)[: scores.size - doubted] if doubted else scores
        value, note = rule(trusted, quantile)
        if name == "quantile":
            rank = conformal_rank(trusted.size, quantile)
            promised = (scores.size + 1 - rank) / (scores.size + 1)
            if doubted:
                aimed = (trusted.size + 1 - rank) / (trusted.size + 1)
                note = _assumed(contamination, doubted, scores.size, aimed, promised) + (note and f"; {note}")
    fpr = float((scores > value).mean()) if scores.size else None
    return Threshold(value, str(name), fpr, note, promised)


def check_threshold(config: Mapping[str, Any], calibration: int, abnormal: bool) -> None:
    """Raise UserError if no scores of so many calibration images, and of `abnormal` test images or none, can give it."""
    labels = [0, 1] if abnormal else [0]
    resolve_threshold(config, np.zeros(calibration), np.zeros(len(labels)), labels)


def _assumed(contamination: float, doubted: int, count: int, aimed: float, promised: float) -> str:
    """What a threshold rests on that leaves out the highest calibration scores."""
    return (
        f"data.contamination={contamination:g}: the {doubted} highest of {count} calibration scores do not count, as if they were "
        f"of abnormal images; if they are, at most {aimed:.3g} of normal images are false alarms, if all are normal {promised:.3g}"
    )


def _number(config: Mapping[str, Any], key: str) -> float:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"threshold.{key}={value}: not a number; give one, such as threshold.{key}=0.95")
    return float(value)
