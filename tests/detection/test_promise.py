"""The promise of the thresholds, through the whole scoring path with four parts: new normal images are alarms as often."""

import pytest

from scripts.false_alarms import TAILS, realised

TRIALS = 250
SURE = 4.5  # standard errors


@pytest.mark.thorough
@pytest.mark.parametrize("tails", TAILS)
@pytest.mark.parametrize("count", [2, 5, 19, 99])
def test_new_normals_are_alarms_as_often_as_promised(tails: str, count: int) -> None:
    promised, error, rates = realised(TAILS[tails], count, TRIALS)
    deciding = count - count // 2
    assert promised == max(1, (deciding + 1) // 20) / (deciding + 1)
    assert rates == pytest.approx(promised, abs=SURE * error)  # no more; and, without ties, no less
