"""`train(config, folder)` from beginning to end, for every method: what it leaves behind, and that it all agrees."""

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from anomap.commands.train import train
from anomap.data.build import build_data
from anomap.detection.calibration import quantile_threshold
from anomap.detection.checkpoint import load_model, read
from anomap.detection.scoring import ScoringModel
from anomap.errors import UserError
from anomap.evaluation import controls, outcome
from anomap.objectives.base import AdversarialObjective
from anomap.runs.folder import read_metrics
from anomap.training.clean import CleanBatches
from anomap.training.norms import settle_norms
from tests import tiny
from tests.finished import Run, Runs
from tests.tables import read_scores

LOOKED_AT = ("adgan", "attention_network", "control_mean")  # two stages, a map of its own, nothing trained
KEYS = [
    "image_auroc",
    "image_ap",
    "image_f1",
    "threshold",
    "threshold_strategy",
    "promised_fpr",
    "calibration_fpr",
    "test_fpr",
    "test_tpr",
    "pixel_auroc",
    "pixel_ap",
    "pixel_aupro",
    "n_train",
    "n_calibration",
    "n_test_normal",
    "n_test_abnormal",
    "train_seconds",
    "train_images_per_second",
    "score_images_per_second",
    "peak_rss_mb",
    "seed",
    "model",
    "data",
    "image_size",
    "epochs",
    "checkpoint",
]


@pytest.fixture(params=tiny.MODELS)
def run(request: pytest.FixtureRequest, runs: Runs) -> Run:
    return runs(f"model={request.param}")


def test_metrics_hold_every_key_and_plausible_numbers(run: Run) -> None:
    metrics: dict[str, Any] = read_metrics(run.folder.metrics)
    assert [key for key in KEYS if key not in metrics] == []
    assert metrics.keys() == run.metrics.keys()
    for name in ("image_auroc", "image_ap", "image_f1", "test_fpr", "test_tpr", "calibration_fpr", "pixel_auroc"):
        assert 0 <= metrics[name] <= 1, name
    assert (metrics["n_test_normal"], metrics["n_test_abnormal"]) == (4, 3)
    assert metrics["n_train"] + metrics["n_calibration"] == 20
    assert metrics["n_calibration"] > 0
    assert metrics["model"] == run.config["model"]["name"]
    assert metrics["image_size"] == "32x32"
    trained = "optimizer" in run.config["model"]
    assert metrics["epochs"] == (1 if trained else 0)
    assert (metrics["train_seconds"] > 0) == trained
    assert (metrics["train_images_per_second"] is not None) == trained


def test_scores_have_a_row_per_test_image_and_give_the_metrics_again(run: Run) -> None:
    rows, metrics = read_scores(run.folder.scores), run.metrics
    assert sorted(row.path for row in rows) == [
        *(f"test/0.normal/{number:02d}.png" for number in range(20, 24)),
        *(f"test/hole/{number:02d}.png" for number in range(24, 27)),
    ]
    assert all((row.label == "abnormal") == (row.defect == "hole") == ("hole" in row.path) for row in rows)
    labels, scores = [row.label == "abnormal" for row in rows], [row.score for row in rows]
    assert metrics["image_auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert metrics["image_ap"] == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert all(row.threshold == metrics["threshold"] for row in rows)
    alarms = np.array([row.prediction == "abnormal" for row in rows])
    assert alarms.tolist() == [row.score > row.threshold for row in rows]
    assert metrics["test_fpr"] == alarms[~np.array(labels)].mean()
    assert metrics["test_tpr"] == alarms[np.array(labels)].mean()


def test_the_checkpoint_scores_as_the_run_did(run: Run) -> None:
    """A fresh detector and a fresh reading of the files give `scores.csv` again, whatever the batches."""
    detector, config = load_model(run.folder.last_checkpoint)
    assert config == run.config
    data = build_data(config["data"])
    data.setup()
    rows = {row.path: row.score for row in read_scores(run.folder.scores)}
    order = torch.randperm(len(data.test)).tolist()
    again: dict[str, float] = {}
    with torch.no_grad():
        for start in range(0, len(order), 3):
            chosen = np.array(order[start : start + 3])
            scores, _ = detector(torch.from_numpy(data.test.images[chosen]))
            again |= dict(zip([data.test.samples[i].name for i in chosen], scores.double().tolist(), strict=True))
    assert again == pytest.approx(rows, rel=1e-4, abs=1e-5)


def test_the_threshold_is_that_of_the_stored_calibration_scores(run: Run) -> None:
    state = read(run.folder.last_checkpoint)["anomap"]["state"]
    scores = state["calibration.scores"].double().numpy()
    scaling = state["calibration.scaling"].numpy()
    assert len(scores) == len(scaling) == run.metrics["n_calibration"]
    several = len(state["standardiser.weights"]) > 1
    assert scaling.sum() == run.metrics["n_scaling"] == (len(scores) // 2 if several else 0)
    deciding = scores[~scaling]
    value, _ = quantile_threshold(deciding, run.config["threshold"]["quantile"])
    assert run.metrics["threshold"] == value == float(state["calibration.threshold"])
    assert run.metrics["calibration_fpr"] == (deciding > value).mean()
    assert run.metrics["promised_fpr"] == 1 / (len(deciding) + 1)  # so few that the largest is the threshold


@pytest.mark.thorough
def test_the_calibration_scores_are_those_of_the_held_out_normals(run: Run) -> None:
    detector, config = load_model(run.folder.last_checkpoint)
    data = build_data(config["data"])
    data.setup()
    assert not {s.name for s in data.calibration.samples} & {s.name for s in [*data.train.samples, *data.test.samples]}
    with torch.no_grad():
        scores, _ = detector(torch.from_numpy(data.calibration.images[:]))
    torch.testing.assert_close(scores, detector.calibration.scores, rtol=1e-4, atol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("model", LOOKED_AT)
def test_everything_that_people_look_at_is_there(model: str, runs: Runs) -> None:
    run = runs(f"model={model}", "figures=true")
    names = {path.stem for path in run.folder.figures.iterdir()}
    assert names == {"score_distribution", "roc", "precision_recall", "attention_maps", "worst_mistakes"}
    assert all(path.stat().st_size > 1000 for path in run.folder.figures.glob("*.png"))
    page = run.folder.report.read_text(encoding="utf-8")
    assert "test/hole/24.png" in page
    assert not re.search(r'(src|href)="https?://', page)  # it opens without a network
    assert not list(run.folder.path.rglob(".tmp-*"))


@pytest.mark.thorough
def test_without_figures_none_is_left_of_an_earlier_run(runs: Runs, tmp_path: Path) -> None:
    """They would show another result; what somebody put beside them stays."""
    train({**runs("model=control_mean").config, "figures": True}, tmp_path)
    (tmp_path / "figures" / "mine.png").write_bytes(b"")
    train(runs("model=control_mean").config, tmp_path)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["mine.png"]
    assert not (tmp_path / "report.html").exists()
    assert (tmp_path / "scores.csv").is_file()


@pytest.mark.parametrize("key", ["figures", "controls"])
def test_a_switch_is_true_or_false(key: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{key}=maybe: give true or false"):
        train({**tiny.config("model=control_mean"), key: "maybe"}, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("model", tiny.TRAINED)
def test_tensorboard_holds_the_auroc_images_and_results(model: str, runs: Runs) -> None:
    run = runs(f"model={model}")
    two = "stage1" in run.config["model"]
    assert {path.name for path in run.folder.tensorboard.iterdir() if path.is_dir()} == (
        {"stage1", "stage2"} if two else set()
    )
    events, scalars = [], {}
    for folder in [run.folder.tensorboard / name for name in (("stage1", "stage2") if two else ("",))]:
        events = [_accumulated(path) for path in folder.glob("events*")]
        scalars = {tag: found.Scalars(tag) for found in events for tag in found.Tags()["scalars"]}
        assert {"AUROC/test (monitoring)", "generator loss/total", "discriminator loss/total"} <= set(scalars)
        assert "epoch" not in scalars
        images = {tag: found.Images(tag) for found in events for tag in found.Tags()["images"]}
        assert sum(tag.startswith("training images/train/") for tag in images) == 3
        # the one defect type, and three normals
        assert sorted(tag.split("/")[2] for tag in images if tag.startswith("test")) == ["0.normal"] * 3 + ["hole"]
        histograms = {tag: found.Histograms(tag) for found in events for tag in found.Tags()["histograms"]}
        assert set(histograms) == {"scores/calibration normal", "scores/test normal", "scores/test abnormal"}
        # one axis of optimiser steps for scalars, images and histograms; learning rates are those at the start
        logged = {**scalars, **images, **histograms}
        last = {found[-1].step for tag, found in logged.items() if not tag.startswith("learning rate/")}
        assert last == {run.metrics["steps"]}
        assert min(logged).startswith("AUROC/")  # TensorBoard's order: first on its first page
    # monitoring is the final scoring: one path, the averaged weights, the same standardisation
    (event,) = scalars["AUROC/test (monitoring)"]
    assert event.value == pytest.approx(run.metrics["image_auroc"], abs=1e-6)
    assert scalars["result/AUROC"][-1].value == pytest.approx(run.metrics["image_auroc"], abs=1e-6)
    assert any("_hparams_/session_start_info" in found.summary_metadata for found in events)


@pytest.mark.parametrize("model", ["ganomaly", "skip_ganomaly"])
def test_a_method_of_clean_images_ends_with_the_statistics_of_its_final_weights(model: str, runs: Runs) -> None:
    """Those that a pass over the training images gives again; BatchNorm's own of the training are others."""
    run = runs(f"model={model}")
    detector, config = load_model(run.folder.last_checkpoint)
    assert isinstance(detector.objective, AdversarialObjective)
    before = copy.deepcopy(detector.objective.state_dict())
    data = build_data(config["data"])
    data.setup()
    settle_norms(detector.objective, CleanBatches(data))
    after = detector.objective.state_dict()
    assert any("running_mean" in name for name in before)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=1e-4, atol=1e-5)
    trained = read(run.folder.last_checkpoint)["state_dict"]
    means = [name for name in before if name.endswith("running_mean") and before[name].any()]
    assert any(not torch.allclose(before[name], trained[f"ema.objective.{name}"], rtol=1e-2) for name in means)


def _accumulated(file: Path) -> EventAccumulator:
    events = EventAccumulator(str(file), size_guidance={"images": 0})
    events.Reload()
    return events


@pytest.mark.thorough
def test_the_same_seed_gives_the_same_run_and_another_does_not(runs: Runs, tmp_path: Path) -> None:
    run = runs("model=attention_network")
    for seed, equal in ((0, True), (1, False)):
        config = {**run.config, "seed": seed, "logger": {}}
        config["augmentation"] = {**config["augmentation"], "seed": seed}
        again = train(config, tmp_path / str(seed))
        scores = [row.score for row in read_scores(tmp_path / str(seed) / "scores.csv")]
        assert (scores == [row.score for row in read_scores(run.folder.scores)]) == equal
        assert (again["threshold"] == run.metrics["threshold"]) == equal
        assert not (tmp_path / str(seed) / "tensorboard").exists()


@pytest.mark.parametrize("model", tiny.TRAINED)
def test_the_averaged_weights_score_not_the_last_ones(model: str, runs: Runs) -> None:
    found = read(runs(f"model={model}").folder.last_checkpoint)
    training, state = found["state_dict"], found["anomap"]["state"]
    weights = [name for name in training if name.startswith("objective.generator.") and name.endswith("weight")]
    assert all(torch.equal(state[name], training[f"ema.{name}"]) for name in weights)
    assert not all(torch.equal(state[name], training[name]) for name in weights)


def test_what_may_fail_comes_after_the_detector_is_saved(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Memory ends in a control, the disk is full in a figure: two lines, and the run ends with its metrics."""
    config, found = runs("model=control_mean").config, []

    def ends() -> Any:
        found.append(load_model(tmp_path / "checkpoints/last.ckpt")[0].threshold)
        raise MemoryError("15 GB")

    def full(*_: Any, **__: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setitem(controls.CHEAP, "control_mean", ends)
    monkeypatch.setattr(outcome, "write_pictures", full)
    metrics = train({**config, "controls": True, "figures": True}, tmp_path)
    assert found == [metrics["threshold"]]
    assert metrics["control_mean_auroc"] is None
    assert 0 <= metrics["control_pca_auroc"] <= 1
    assert read_metrics(tmp_path / "metrics.json")["image_auroc"] == metrics["image_auroc"]
    said = [record.message for record in caplog.records if "left out:" in record.message]
    assert said == [
        "control_mean left out: MemoryError: 15 GB",
        "figures and report left out: OSError: No space left on device",
    ]


# --- two stages ---


def test_stage_1_is_trained_first_and_ends_up_frozen_in_the_detector(runs: Runs) -> None:
    run = runs("model=adgan")
    stage1 = read(run.folder.path / "stage1" / "checkpoints" / "last.ckpt")["state_dict"]
    state = read(run.folder.last_checkpoint)["anomap"]["state"]
    averaged = {k.removeprefix("ema.objective."): v for k, v in stage1.items() if k.startswith("ema.objective.")}
    assert averaged
    for name, tensor in averaged.items():
        assert torch.equal(state[f"objective.stage1.{name}"], tensor), name


@pytest.mark.thorough
def test_a_trained_stage_1_can_be_given(runs: Runs) -> None:
    first = runs("model=attention_network")
    run = runs("model=adgan", f"model.stage1_checkpoint={first.folder.last_checkpoint}")
    assert not (run.folder.path / "stage1").exists()
    given = load_model(first.folder.last_checkpoint)[0].objective.state_dict()
    used = read(run.folder.last_checkpoint)["anomap"]["state"]
    for name, tensor in given.items():
        assert torch.equal(used[f"objective.stage1.{name}"], tensor), name
    # its part of the score is then that of the given detector
    images = tiny.textures(3, seed=5)
    with torch.no_grad():
        mine = load_model(run.folder.last_checkpoint)[0].objective.score(images).parts["map"]
        theirs = load_model(first.folder.last_checkpoint)[0].objective.score(images).parts["map"]
    torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("other", ["model=ganomaly", "missing"])
def test_a_stage_1_that_does_not_fit_is_refused(other: str, runs: Runs, tmp_path: Path, data: Path) -> None:
    path = "/no/such.ckpt" if other == "missing" else runs(other).folder.last_checkpoint
    config = tiny.config("model=adgan", f"data.root={data}", f"model.stage1_checkpoint={path}")
    with pytest.raises(UserError, match=r"stage1_checkpoint|no such checkpoint") as raised:
        train(config, tmp_path)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "metrics.json").exists()


# --- every test image is scored ---


def test_masks_of_normal_images_are_empty_and_pixels_are_counted(runs: Runs) -> None:
    assert runs("model=control_mean").metrics["pixel_auroc"] > 0.9  # black holes in soft stripes


def test_a_detector_is_what_is_left_when_training_data_is_gone(runs: Runs, tmp_path: Path) -> None:
    """The checkpoint alone is enough: nothing in it points to a file."""
    run = runs("model=ganomaly")
    alone = tmp_path / "moved.ckpt"
    alone.write_bytes(run.folder.last_checkpoint.read_bytes())
    detector, _ = load_model(alone)
    assert isinstance(detector, ScoringModel)
    score, anomaly_map = detector(torch.randint(0, 256, (1, 1, 50, 70), dtype=torch.uint8))
    assert torch.isfinite(score).all()
    assert anomaly_map.shape == (1, 1, 32, 32)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("threshold=manual",), r"threshold\.value=None"),
        (("threshold=quantile", "threshold.quantile=1"), r"threshold\.quantile=1"),
        (("seed=-1",), "seed=-1: give a whole number from 0 to 4294967295"),
        (("seed=1.5",), r"seed=1\.5"),
        (("seed=5000000000",), "seed=5000000000"),
    ],
)
def test_a_number_that_cannot_be_is_refused_before_anything_is_trained(
    overrides: tuple[str, ...], message: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anomap.commands.train.train_method", None)
    with pytest.raises(UserError, match=message):
        train(tiny.config("model=control_mean", f"data.root={data}", *overrides), tmp_path / "run")


def test_a_threshold_by_test_labels_needs_them_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anomap.commands.train.train_method", None)
    root = tiny.write_folder(tmp_path / "data", abnormal=0)
    with pytest.raises(UserError, match="oracle_f1: needs a test set with abnormal images"):
        train(tiny.config("model=control_mean", f"data.root={root}", "threshold=oracle_f1"), tmp_path / "run")


@pytest.mark.thorough
@pytest.mark.parametrize("model", ["feature_attention_network", "adgan"])
def test_one_image_to_learn_from_is_enough_for_a_detector(model: str, tmp_path: Path) -> None:
    root = tiny.write_folder(tmp_path / "data", train=2)
    metrics = train(tiny.config(f"model={model}", f"data.root={root}", "controls=false"), tmp_path / "run")
    assert metrics["n_train"] == 1
    assert np.isfinite(metrics["threshold"])


def test_batches_of_one_image_that_cannot_be_normalised_are_one_line(data: Path, tmp_path: Path) -> None:
    overrides = ("model=ganomaly", f"data.root={data}", "data.image_size=16", "data.batch_size=1", "controls=false")
    with pytest.raises(UserError, match=r"raise data\.batch_size or data\.image_size"):
        train(tiny.config(*overrides), tmp_path / "run")
