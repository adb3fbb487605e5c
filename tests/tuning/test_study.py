"""The study: resumed, pruned, repeated where it was killed. With an objective that is a formula."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from anomap.errors import UserError
from anomap.training.module import TrainingDiverged
from anomap.tuning.space import read_space
from anomap.tuning.study import best, done, first_trial, open_study, search, write_table

SPACE = read_space({"x": {"low": 0.0, "high": 1.0}})
SETTINGS = {"model.name": "a", "data.image_size": [32, 32]}


def value_of(values: dict[str, Any], report: Callable[[float, int], None]) -> float:
    """Highest at 1."""
    for epoch in (1, 2, 3):
        report(values["x"] * epoch / 3, epoch)
    return values["x"]


def states(study: optuna.Study) -> list[str]:
    return [trial.state.name for trial in study.get_trials()]


@pytest.mark.thorough
def test_a_killed_trial_is_repeated_and_the_study_goes_on(tmp_path: Path) -> None:
    begun: list[float] = []

    def killed(values: dict[str, Any], report: Callable[[float, int], None]) -> float:
        begun.append(values["x"])
        if len(begun) == 3:
            raise KeyboardInterrupt  # the trial stays as a killed process leaves it
        return value_of(values, report)

    study = open_study(tmp_path, SETTINGS, 0, None)
    with pytest.raises(KeyboardInterrupt):
        search(study, SPACE, killed, 4, lambda: None)
    assert states(study) == ["COMPLETE", "COMPLETE", "RUNNING"]

    again = open_study(tmp_path, SETTINGS, 0, None)
    search(again, SPACE, value_of, 4, lambda: None)
    assert states(again) == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE"]
    trials = again.get_trials()
    assert trials[3].params == trials[2].params == {"x": begun[2]}
    assert trials[3].user_attrs["repeats"] == 2
    assert len({trial.params["x"] for trial in trials}) == 4  # what is drawn after a restart is new
    search(open_study(tmp_path, SETTINGS, 0, None), SPACE, value_of, 4, lambda: pytest.fail("nothing was left to do"))
    found = best(again)
    assert found is not None
    assert found.params["x"] == max(trial.params["x"] for trial in trials)


def test_a_poor_trial_is_stopped_early(tmp_path: Path) -> None:
    reached: list[int] = []

    def falling(values: dict[str, Any], report: Callable[[float, int], None]) -> float:
        level = 1.0 - 0.2 * len(reached)
        reached.append(0)
        for epoch in (1, 2, 3):
            reached[-1] = epoch
            report(level, epoch)
        return level

    study = open_study(tmp_path, SETTINGS, 0, startup_trials=2)
    search(study, SPACE, falling, 4, lambda: None)
    assert states(study) == ["COMPLETE", "COMPLETE", "PRUNED", "PRUNED"]
    assert reached == [3, 3, 1, 1]
    other = open_study(tmp_path / "never", SETTINGS, 0, startup_trials=None)
    reached.clear()
    search(other, SPACE, falling, 4, lambda: None)
    assert reached == [3, 3, 3, 3]


def test_a_training_that_diverges_is_a_trial_without_a_value(tmp_path: Path) -> None:
    count = iter(range(9))

    def diverging(values: dict[str, Any], report: Callable[[float, int], None]) -> float:
        number = next(count)
        if number == 0:
            raise TrainingDiverged("the loss is not a finite number")
        return float("nan") if number == 1 else values["x"]

    study = open_study(tmp_path, SETTINGS, 0, None)
    search(study, SPACE, diverging, 3, lambda: None)
    assert states(study) == ["FAIL", "FAIL", "COMPLETE"]
    assert done(study) == 3
    write_table(study, SPACE, tmp_path / "trials.csv")
    rows = list(csv.DictReader((tmp_path / "trials.csv").open()))
    assert [row["state"] for row in rows] == ["fail", "fail", "complete"]
    assert "not a finite" in rows[0]["problem"]
    assert float(rows[2]["x"]) == float(rows[2]["objective"])


def test_a_wrong_configuration_ends_the_study(tmp_path: Path) -> None:
    def wrong(*_: Any) -> float:
        raise UserError("data.root is not set")

    study = open_study(tmp_path, SETTINGS, 0, None)
    with pytest.raises(UserError, match=r"data\.root"):
        search(study, SPACE, wrong, 3, lambda: None)
    assert states(study) == ["FAIL"]
    assert done(study) == 0


def test_the_first_trial_is_as_configured_if_the_space_holds_it(tmp_path: Path) -> None:
    inside = open_study(tmp_path / "inside", SETTINGS, 0, None)
    first_trial(inside, SPACE, {"x": 0.25})
    search(inside, SPACE, value_of, 1, lambda: None)
    first_trial(inside, SPACE, {"x": 0.5})  # only ever at the start
    search(inside, SPACE, value_of, 2, lambda: None)
    assert inside.get_trials()[0].params["x"] == 0.25
    assert inside.get_trials()[1].params["x"] != 0.5
    outside = open_study(tmp_path / "outside", SETTINGS, 0, None)
    first_trial(outside, SPACE, {"x": 3.0})
    first_trial(outside, {"ablation": (None, "cbam_off")}, {"x": 0.25})  # a group, which has no value of its own
    assert outside.get_trials() == []


def test_other_settings_need_another_study(tmp_path: Path) -> None:
    open_study(tmp_path, SETTINGS, 0, None)
    open_study(tmp_path, SETTINGS, 1, 5)
    with pytest.raises(UserError, match=r"begun with model\.name=a, not b"):
        open_study(tmp_path, {**SETTINGS, "model.name": "b"}, 0, None)
