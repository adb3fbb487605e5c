"""A promise beside its outcome: the alarms on the test normals, and whether they look like those that calibrated."""

from typing import Any

import numpy as np

from anomap.data.samples import NORMAL
from anomap.detection.calibration import Threshold
from anomap.detection.drift import Drift, DriftMonitor
from anomap.detection.scoring import ScoringModel
from anomap.evaluation.scored_set import ScoredSet

IMPROBABLE = 0.001  # probability of the alarms on test normals, below which the promise is said not to be kept


def promise_kept(detector: ScoringModel, scored: ScoredSet, threshold: Threshold) -> dict[str, Any]:
    """The promise beside its outcome on the test normals: `test_fpr_p_value`, and where that is small a `promise_note`.

    The probability of at least so many false alarms if the promise holds; see `anomap.intervals.chance_of_alarms`. Empty
    where nothing was promised, or there are no test normals.
    """
    drift = compared(detector, scored)
    if threshold.promised_fpr is None or drift is None or drift.alarms_p_value is None or not drift.images:
        return {}
    found: dict[str, Any] = {"test_fpr_p_value": drift.alarms_p_value}
    if drift.alarms_p_value < IMPROBABLE:
        cause = drift.cause or (
            "test normals of another kind, batch or place than the training's, or calibration images that are near copies "
            "of training images"
        )
        found["promise_note"] = (
            f"{drift.rate} on test normals ({drift.alarms} of {drift.images}), which has a probability of "
            f"{drift.alarms_p_value:.1g} if they are like the {len(detector.calibration.scores)} calibration images: {cause}"
        )
    return found


def compared(detector: ScoringModel, scored: ScoredSet) -> Drift | None:
    """The test normals beside the calibration normals; None of a checkpoint that kept nothing to compare with."""
    if detector.reference is None:
        return None
    test, monitor = scored.test, DriftMonitor(detector.reference)
    normal = test.labels == NORMAL
    known = test.statistics if len(test.statistics) == len(normal) else np.full((len(normal), 0), np.nan)
    monitor.observe(test.scores[normal], known[normal])
    return monitor.drift()
