"""Thresholds: their promises hold, and impossible wishes end in one line."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from anomap.detection.calibration import Threshold, conformal_rank, resolve_threshold
from anomap.errors import UserError

CONFIGS = sorted((Path(__file__).parents[2] / "conf" / "threshold").glob("*.yaml"))


def _quantile(quantile: float, scores: object) -> Threshold:
    return resolve_threshold({"strategy": "quantile", "quantile": quantile}, np.asarray(scores, np.float64))


@pytest.mark.parametrize(
    ("n", "quantile", "k"), [(19, 0.95, 19), (99, 0.95, 95), (99, 0.55, 55), (9, 0.5, 5), (9, 1e-12, 1)]
)
def test_quantile_is_the_conformal_order_statistic(n: int, quantile: float, k: int) -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1, n + 1))
    threshold = _quantile(quantile, scores)
    assert threshold == Threshold(float(k), "quantile", (n - k) / n, "", (n + 1 - k) / (n + 1))


@given(n=st.integers(1, 60), quantile=st.floats(0.01, 0.99))
def test_quantile_keeps_its_promise_for_every_n(n: int, quantile: float) -> None:
    # Of n + 1 exchangeable normals each is equally likely to be the new one: count those that would be
    # alarms.
    everyone = np.arange(n + 1.0)
    alarms = sum(one > _quantile(quantile, np.delete(everyone, i)).value for i, one in enumerate(everyone))
    promised = _quantile(quantile, everyone[1:]).promised_fpr
    assert promised is not None
    assert alarms / (n + 1) == pytest.approx(promised)
    assert promised <= max(1 - quantile, 1 / (n + 1)) + 1e-9


def test_too_few_images_fall_back_to_the_maximum_and_say_so() -> None:
    threshold = _quantile(0.99, np.arange(25))
    assert threshold.value == 24
    assert threshold.calibration_fpr == 0
    assert threshold.promised_fpr == 1 / 26
    assert "25 calibration image(s)" in threshold.note
    assert "99 are needed" in threshold.note
    assert "0.0385" in threshold.note
    assert _quantile(0.99, np.arange(99)).note == ""


def test_gaussian_is_mean_plus_z_standard_deviations() -> None:
    scores = np.random.default_rng(0).normal(5, 2, 20_000)
    threshold = resolve_threshold({"strategy": "gaussian", "quantile": 0.975}, scores)
    assert threshold.value == pytest.approx(5 + 1.96 * 2, abs=0.06)
    assert threshold.calibration_fpr == pytest.approx(0.025, abs=0.004)
    assert threshold.note == ""


def test_gaussian_says_when_the_scores_are_not() -> None:
    scores = np.random.default_rng(0).lognormal(sigma=2, size=5000)
    threshold = resolve_threshold({"strategy": "gaussian", "quantile": 0.999}, scores)
    assert "not Gaussian" in threshold.note


def test_manual_needs_no_images_and_reports_what_it_does_to_them() -> None:
    config = {"strategy": "manual", "value": 2}
    assert resolve_threshold(config, []) == Threshold(2.0, "manual", None, "")
    assert resolve_threshold(config, [1.0, 2.0, 3.0, 4.0]).calibration_fpr == 0.5


def test_oracle_reads_test_labels_and_says_so() -> None:
    threshold = resolve_threshold({"strategy": "oracle_f1"}, [0.0, 5.0], [1.0, 2.0, 4.0], [0, 0, 1])
    assert threshold.value == 3.0
    assert threshold.calibration_fpr == 0.5
    assert "test labels" in threshold.note


@pytest.mark.parametrize("strategy", ["quantile", "gaussian", "manual"])
def test_honest_strategies_never_look_at_the_test_set(strategy: str) -> None:
    config = {"strategy": strategy, "quantile": 0.9, "value": 1.0}
    calibration = np.arange(50.0)
    poisoned = resolve_threshold(config, calibration, [math.nan, 1e9], [1, 0])
    assert poisoned == resolve_threshold(config, calibration)


def test_decides_strictly_above() -> None:
    decided = Threshold(1.0, "manual", None).decide([0.5, 1.0, np.nextafter(1.0, 2.0)])
    assert decided.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"strategy": "quantile", "quantile": 0}, "threshold.quantile=0"),
        ({"strategy": "quantile", "quantile": 1.0}, "threshold.quantile=1"),
        ({"strategy": "quantile", "quantile": 95}, "threshold.quantile=95"),
        ({"strategy": "quantile", "quantile": math.nan}, "threshold.quantile=nan"),
        ({"strategy": "quantile", "quantile": "high"}, "threshold.quantile=high"),
        ({"strategy": "quantile", "quantile": True}, "threshold.quantile=True"),
        ({"strategy": "quantile"}, "threshold.quantile=None"),
        ({"strategy": "gaussian", "quantile": -0.5}, "threshold.quantile=-0.5"),
        ({"strategy": "manual", "value": None}, "threshold.value=None"),
        ({"strategy": "manual", "value": math.inf}, "threshold.value=inf"),
        ({"strategy": "best"}, "choose one of quantile, gaussian, manual, oracle_f1"),
        ({"strategy": ["quantile"]}, "choose one of"),
        ({}, "choose one of"),
        ({"strategy": "oracle_f1"}, "needs a test set with abnormal images"),
    ],
)
def test_impossible_wishes_are_the_users_one_line(config: dict, part: str) -> None:
    with pytest.raises(UserError) as error:
        resolve_threshold(config, np.arange(50.0))
    assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("strategy", "n"), [("quantile", 0), ("gaussian", 1)])
def test_too_few_images_for_the_strategy(strategy: str, n: int) -> None:
    with pytest.raises(UserError, match=f"threshold={strategy}: needs at least {n + 1} calibration images"):
        resolve_threshold({"strategy": strategy, "quantile": 0.95}, np.arange(n))


def test_a_diverged_model_is_not_calibrated() -> None:
    with pytest.raises(ValueError, match="1 of 2 calibration scores"):
        resolve_threshold({"strategy": "quantile", "quantile": 0.5}, [1.0, math.nan])


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_resolves_and_starts_with_its_command(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith("# anomap-evaluate checkpoint=CKPT ")
    assert f"threshold={path.stem}" in first.split()
    config = OmegaConf.load(path)
    assert OmegaConf.is_dict(config)
    if path.stem == "manual":
        config.value = 0.42
    threshold = resolve_threshold(config, np.arange(50.0), [0.0, 1.0], [0, 1])  # type: ignore[arg-type]
    assert threshold.strategy == path.stem


def test_contamination_takes_the_highest_scores_for_abnormal_and_says_what_that_rests_on() -> None:
    clean = np.arange(95.0)
    contaminated = np.concatenate([clean, [1e3, 2e3, 3e3, 4e3, 5e3]])
    config = {"strategy": "quantile", "quantile": 0.95}
    alone, found = resolve_threshold(config, clean), resolve_threshold(config, contaminated, contamination=0.05)
    assert found.value == alone.value < resolve_threshold(config, contaminated).value
    rank = conformal_rank(95, 0.95)
    assert found.promised_fpr == (101 - rank) / 101  # what holds if all of them are normal
    assert (found.promised_fpr or 0) > 0.05
    assert "the 5 highest of 100 calibration scores do not count" in found.note
    assert f"{(96 - rank) / 96:.3g}" in found.note
    assert resolve_threshold(config, clean, contamination=0.0) == alone


def test_the_weaker_promise_is_kept_if_all_images_are_normal() -> None:
    rng, alarms, promised = np.random.default_rng(0), [], set[float | None]()
    config = {"strategy": "quantile", "quantile": 0.9}
    for _ in range(400):
        found = resolve_threshold(config, rng.standard_normal(40), contamination=0.05)
        alarms.append((rng.standard_normal(200) > found.value).mean())
        promised.add(found.promised_fpr)
    (only,) = promised
    assert only == pytest.approx(np.mean(alarms), abs=0.01)
