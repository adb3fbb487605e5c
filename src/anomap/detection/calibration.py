"""Thresholds: how the raw scores of calibration normals (never test images) become a decision.

`conf/threshold/<strategy>.yaml` names a strategy and its number; `resolve_threshold` makes the `Threshold`.
An image is decided abnormal iff its score > threshold.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from anomap.detection.metrics import oracle_f1_threshold
from anomap.errors import UserError

# (n + 1) * q is meant exactly, but 100 * 0.55 is 55.00000000000001 in floating point.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Threshold:
    """A threshold with its origin.

    Attributes:
        value: an image is abnormal iff its score is above it.
        strategy: its name.
        calibration_fpr: the share above `value` of the calibration normals that set it, None without any. It is no
            independent estimate: with the k-th of n scores as threshold n - k lie above, while a new image does so
            with probability (n + 1 - k) / (n + 1). `test_fpr` in `metrics.json` is the independent figure.
        note: one sentence for the user, or empty.
        promised_fpr: a new normal image is above `value` with at most this probability, see `conformal_rank`; None
            if the strategy promises nothing.
    """

    value: float
    strategy: str
    calibration_fpr: float | None
    note: str = ""
    promised_fpr: float | None = None

    def decide(self, scores: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """True = abnormal, for scores of any shape."""
        return np.asarray(scores, np.float64) > self.value


def conformal_rank(n: int, quantile: float) -> int:
    """K = ceil((n + 1) * quantile), at most n: the k-th smallest of n calibration scores is the threshold.

    Guarantee for every n, whatever the distribution: if a new normal image is exchangeable with the n images,
    P(score > threshold) <= 1 - k / (n + 1), the probability being over the draw of the n images and the new one
    together (split conformal prediction: Vovk et al., "Algorithmic Learning in a Random World", 2005; Angelopoulos &
    Bates, arXiv:2107.07511, section 1). Nothing that enters the score may have been fitted to the n images.

    That is at most 1 - quantile if n >= quantile / (1 - quantile), 19 images for 0.95; with fewer the largest score
    is taken, which promises 1 / (n + 1).

    Args:
        n: at least 1.
        quantile: in (0, 1).
    """
    return min(n, max(1, math.ceil((n + 1) * quantile - _ROUNDING)))


def quantile_threshold(scores: npt.NDArray[np.float64], quantile: float) -> tuple[float, str]:
    """The order statistic of `conformal_rank`, and a note if the images are too few for `quantile`.

    Args:
        scores: (N,) calibration scores, N >= 1.
        quantile: in (0, 1).
    """
    n = scores.size
    k = conformal_rank(n, quantile)
    value = float(np.partition(scores, k - 1)[k - 1])
    needed = math.ceil(quantile / (1 - quantile) - _ROUNDING)
    if n >= needed:
        return value, ""
    return value, (
        f"{n} calibration image(s) set the threshold, too few to promise a false-positive rate of {1 - quantile:.3g} "
        f"({needed} are needed): it is their largest score, which promises {1 / (n + 1):.3g}"
    )


def gaussian_threshold(scores: npt.NDArray[np.float64], quantile: float) -> tuple[float, str]:
    """Mean + z(quantile) * sample standard deviation: right only as far as normal scores are Gaussian.

    It reaches beyond the largest calibration score, which a quantile of few images cannot, but skewed scores
    break its promise; the note says when the calibration set itself already does.

    Args:
        scores: (N,) calibration scores, N >= 2.
        quantile: in (0, 1); the target false-positive rate is 1 - quantile.
    """
    value = float(scores.mean() + NormalDist().inv_cdf(quantile) * scores.std(ddof=1))
    expected, realised = 1 - quantile, float((scores > value).mean())
    # Three standard errors of a proportion: less than that is chance.
    if realised > expected + 3 * math.sqrt(expected * quantile / scores.size):
        return value, (
            f"{realised:.3g} of the calibration images lie above a threshold meant for {expected:.3g}: "
            "the scores are not Gaussian, prefer threshold=quantile"
        )
    return value, ""


def _number(config: Mapping[str, Any], key: str) -> float:
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"threshold.{key}={value}: not a number; give one, such as threshold.{key}=0.95")
    return float(value)


def _quantile(config: Mapping[str, Any]) -> float:
    quantile = _number(config, "quantile")
    if not 0 < quantile < 1:
        raise UserError(
            f"threshold.quantile={quantile:g}: must lie between 0 and 1, both excluded; 0.95 aims at 5 % false alarms"
        )
    return quantile


def _from_calibration(
    rule: Callable[[npt.NDArray[np.float64], float], tuple[float, str]], minimum: int
) -> Callable[..., tuple[float, str]]:
    def strategy(config: Mapping[str, Any], calibration: npt.NDArray[np.float64], *_: object) -> tuple[float, str]:
        quantile = _quantile(config)
        if calibration.size < minimum:
            raise UserError(
                f"threshold={config['strategy']}: needs at least {minimum} calibration images, not "
                f"{calibration.size}; add normal images or give threshold=manual threshold.value=NUMBER"
            )
        return rule(calibration, quantile)

    return strategy


def _manual(config: Mapping[str, Any], *_: object) -> tuple[float, str]:
    return _number(config, "value"), ""


def _oracle_f1(
    config: Mapping[str, Any],
    calibration: npt.NDArray[np.float64],
    test_scores: npt.ArrayLike | None,
    test_labels: npt.ArrayLike | None,
) -> tuple[float, str]:
    if test_scores is None or test_labels is None or not np.any(np.asarray(test_labels)):
        raise UserError(
            "threshold=oracle_f1: needs a test set with abnormal images; choose another, such as threshold=quantile"
        )
    return oracle_f1_threshold(test_scores, test_labels), "chosen with the test labels: an upper bound, not a result"


_STRATEGIES: dict[str, Callable[..., tuple[float, str]]] = {
    "quantile": _from_calibration(quantile_threshold, minimum=1),
    "gaussian": _from_calibration(gaussian_threshold, minimum=2),
    "manual": _manual,
    "oracle_f1": _oracle_f1,
}


def resolve_threshold(
    config: Mapping[str, Any],
    calibration_scores: npt.ArrayLike,
    test_scores: npt.ArrayLike | None = None,
    test_labels: npt.ArrayLike | None = None,
) -> Threshold:
    """Make the threshold that `config` (`conf/threshold/*.yaml`) asks for.

    Args:
        config: `strategy` and its number: `quantile` (quantile, gaussian) or `value` (manual).
        calibration_scores: (N,) raw scores of the calibration normals that set the threshold; may be empty for manual and
            oracle_f1.
        test_scores: (M,) raw scores, read by `oracle_f1` alone.
        test_labels: (M,) 0 normal, 1 abnormal, read by `oracle_f1` alone.

    Raises:
        UserError: an unknown strategy, an impossible number, or too few images for the strategy.
        ValueError: a score is not finite.
    """
    name = config.get("strategy")
    strategy = _STRATEGIES.get(name) if isinstance(name, str) else None
    if strategy is None:
        raise UserError(f"threshold.strategy={name}: unknown; choose one of {', '.join(_STRATEGIES)}")
    calibration = np.asarray(calibration_scores, np.float64).reshape(-1)
    if not np.isfinite(calibration).all():
        count = int((~np.isfinite(calibration)).sum())
        raise ValueError(f"{count} of {calibration.size} calibration scores are not finite")
    value, note = strategy(config, calibration, test_scores, test_labels)
    fpr = float((calibration > value).mean()) if calibration.size else None
    promised = None
    if name == "quantile":
        n = calibration.size
        promised = (n + 1 - conformal_rank(n, config["quantile"])) / (n + 1)
    return Threshold(value, str(name), fpr, note, promised)
