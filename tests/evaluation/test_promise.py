"""A promise beside its outcome: what is kept is not spoken of, what is not has a line with its likely cause."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from anomap.detection.calibration import Threshold
from anomap.detection.drift import Reference
from anomap.detection.scoring import ImageScores
from anomap.evaluation.promise import IMPROBABLE, promise_kept
from anomap.viewing.report import _warnings


def kept(alarms: int, normals: int = 60, brightness: float = 1.0, promised: float | None = 0.05) -> dict[str, Any]:
    """Of so many alarms on test normals, by 19 images that set the threshold; defects are among the test images."""
    rng = np.random.default_rng(0)
    table = 1 + 0.05 * rng.random((200, 5))
    scores = np.concatenate([np.full(alarms, 2.0), np.full(normals - alarms, 0.5), np.full(40, 9.0)])
    labels = np.repeat([0, 1], [normals, 40])
    test = ImageScores(scores, labels, scores, {}, statistics=table[: normals + 40] * [brightness, 1, 1, 1, 1])
    reference = Reference(np.linspace(0, 1, 19), table[-19:], 1.0)
    detector: Any = SimpleNamespace(reference=reference, calibration=SimpleNamespace(scores=np.zeros(38)))
    scored: Any = SimpleNamespace(test=test)
    return promise_kept(detector, scored, Threshold(1.0, "quantile", 0.05, promised_fpr=promised))


def test_what_is_kept_is_a_number_and_no_line() -> None:
    """Of 19 images that promise 5 %, even 8 of 60 are nothing unusual: a binomial would call them improbable."""
    found = kept(8)
    assert found.keys() == {"test_fpr_p_value"}
    assert found["test_fpr_p_value"] > 0.05
    assert kept(0) == {"test_fpr_p_value": 1.0}


def test_what_is_not_kept_has_a_line_with_its_cause() -> None:
    found = kept(50)
    assert found["test_fpr_p_value"] < IMPROBABLE
    note = found["promise_note"]
    assert "83 % alarms where 5 % was promised on test normals (50 of 60)" in note
    assert "near copies of training images" in note
    assert "camera or light changed? (brightness +30 %)" in kept(50, brightness=1.3)["promise_note"]
    assert _warnings(found) == [f"Promise not kept: {note}."]


@pytest.mark.parametrize("wanted", [{"promised": None}, {"normals": 0, "alarms": 0}])
def test_without_a_promise_or_normals_there_is_nothing_to_say(wanted: dict[str, Any]) -> None:
    assert kept(**{"alarms": 50, **wanted}) == {}
