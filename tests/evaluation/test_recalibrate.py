"""Whether a recalibration was needed, and which images may calibrate."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import betabinom

from anomap.detection.calibration import Threshold
from anomap.evaluation.recalibrate import Recalibration, new_normals
from anomap.intervals import chance_of_alarms
from tests import tiny
from tests.data.helpers import save


def done(alarms: int, chance: float | None, promised: float | None = 0.05) -> Recalibration:
    new, old = Threshold(1.0, "quantile", 0.0, "", 0.05), Threshold(2.0, "quantile", 0.0, "", promised)
    return Recalibration(new, old, ["x"] * 40, np.zeros(40), 20, alarms, chance)


def test_one_sentence_says_whether_it_was_needed() -> None:
    start = "the old threshold alarms on 9 of 40 of these normals"
    assert done(9, 1e-6).needed == (
        f"{start}, where it promised at most 5.0 %: recalibration was needed (by chance so many have a probability of 1e-06)"
    )
    assert "was probably needed" in done(9, 0.01).needed
    assert done(9, 0.3).needed.endswith("may be chance (probability 0.3): nothing says that it was needed")
    assert done(9, None, None).needed == f"{start}, and had promised nothing"


@pytest.mark.parametrize(
    ("alarms", "of", "normals", "rank"), [(3, 20, 19, 19), (1, 5, 3, 3), (20, 20, 92, 89), (0, 7, 9, 9)]
)
def test_the_chance_of_alarms_is_exact(alarms: int, of: int, normals: int, rank: int) -> None:
    expected = betabinom.sf(alarms - 1, of, normals + 1 - rank, rank)
    assert chance_of_alarms(alarms, of, normals, rank) == pytest.approx(expected, rel=1e-6)


def test_a_folder_is_a_folder_whatever_the_training_read(tmp_path: Path) -> None:
    for number in range(5):
        save(tmp_path / f"{number}.png", seed=number)
    for name in ("elpv", "fashion_mnist"):
        trained = tiny.config(f"data={name}")["data"]
        used, normals, _ = new_normals({"root": str(tmp_path)}, trained)
        assert used["name"] == "folder"
        assert used["image_size"] == 32
        assert [sample.name for sample in normals] == [f"{number}.png" for number in range(5)]
