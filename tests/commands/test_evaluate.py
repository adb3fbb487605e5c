"""`evaluate(config, folder)` ends as the training did, from the checkpoint alone; other thresholds and other data."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from anomap.commands import evaluate as module
from anomap.commands.evaluate import command, evaluate
from anomap.config import config_dir, plain
from anomap.detection.checkpoint import read
from anomap.detection.scoring import ScoringModel
from anomap.errors import UserError
from anomap.evaluation.other_data import evaluation_data
from anomap.evaluation.summary import print_summary
from anomap.runs.folder import RunFolder, read_metrics
from tests.finished import Run, Runs
from tests.tables import read_scores

# of the training, or of the machine
OTHERWISE = {
    "n_suspicious",
    "training_note",
    "train_seconds",
    "train_images_per_second",
    "score_images_per_second",
    "peak_rss_mb",
    "checkpoint",
}


def config(path: object, *overrides: str) -> dict[str, Any]:
    """The plain configuration of `anomap-evaluate checkpoint=<path> <overrides>`."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return {**plain(compose("evaluate", list(overrides))), "checkpoint": str(path)}


@pytest.fixture
def run(runs: Runs) -> Run:
    return runs("model=ganomaly")


@pytest.fixture
def checkpoint(run: Run, tmp_path: Path) -> Path:
    """A copy, so that each test has its own cache beside it."""
    return Path(shutil.copy(run.folder.last_checkpoint, tmp_path / "last.ckpt"))


@pytest.fixture
def no_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the model may not be asked."""

    def refuse(*_: object) -> None:
        raise AssertionError("scored again")

    monkeypatch.setattr(ScoringModel, "score", refuse)
    monkeypatch.setattr(ScoringModel, "score_all", refuse)


def same(found: dict[str, Any], trained: dict[str, Any]) -> None:
    """All that both must agree in."""
    kept = {k: v for k, v in trained.items() if k not in OTHERWISE and not k.startswith("control_")}
    for key, value in kept.items():
        assert found[key] == (pytest.approx(value, rel=1e-4) if isinstance(value, float) else value), key


# adgan: two stages; attention_network: image size and masks; control_mean: nothing was trained
@pytest.mark.thorough
@pytest.mark.parametrize("model", ["adgan", "attention_network", "control_mean"])
def test_ends_as_the_training_did(model: str, runs: Runs, tmp_path: Path) -> None:
    run = runs(f"model={model}", "figures=true")
    metrics = evaluate(config(run.folder.last_checkpoint), tmp_path)
    same(metrics, run.metrics)
    assert not metrics.keys() & {"train_seconds", "train_images_per_second"}
    assert read_metrics(tmp_path / "metrics.json").keys() == metrics.keys()
    mine, theirs = read_scores(tmp_path / "scores.csv"), read_scores(run.folder.scores)
    assert [(row.path, row.label, row.defect, row.prediction) for row in mine] == [
        (row.path, row.label, row.defect, row.prediction) for row in theirs
    ]
    assert [row.score for row in mine] == pytest.approx([row.score for row in theirs], rel=1e-4)
    files = {path.relative_to(run.folder.path) for path in run.folder.figures.iterdir()}
    assert {path.relative_to(tmp_path) for path in (tmp_path / "figures").iterdir()} == files
    assert (tmp_path / "report.html").read_text().count('<tr class="chosen">') == 1  # in the table of thresholds


@pytest.mark.thorough
def test_the_second_time_nothing_is_scored(checkpoint: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    first = evaluate(config(checkpoint), tmp_path / "1")
    assert len(list(checkpoint.parent.glob("scores-*.npz"))) == 1
    request.getfixturevalue("no_scoring")
    second = evaluate(config(checkpoint), tmp_path / "2")
    assert {**second, "peak_rss_mb": 0} == {**first, "peak_rss_mb": 0}
    for name in ("scores.csv", "thresholds.csv", "figures/worst_mistakes.png", "figures/attention_maps.png"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name


@pytest.mark.thorough
def test_another_threshold_is_another_decision_on_the_same_scores(
    checkpoint: Path, run: Run, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    evaluate(config(checkpoint), tmp_path / "1")
    request.getfixturevalue("no_scoring")
    calibration = read(checkpoint)["anomap"]["state"]["calibration.scores"].double()
    value = float(calibration.median())
    metrics = evaluate(config(checkpoint, "threshold=manual", f"threshold.value={value!r}"), tmp_path / "2")
    assert metrics["threshold"] == value
    assert metrics["calibration_fpr"] == float((calibration > value).double().mean())
    assert metrics["image_auroc"] == run.metrics["image_auroc"]
    rows = read_scores(tmp_path / "2" / "scores.csv")
    assert [row.prediction == "abnormal" for row in rows] == [row.score > value for row in rows]
    oracle = evaluate(config(checkpoint, "threshold=oracle_f1"), tmp_path / "3")
    assert oracle["image_f1"] >= metrics["image_f1"]
    assert "upper bound" in oracle["threshold_note"]


def test_changed_files_and_damaged_caches_are_scored_again(
    run: Run, checkpoint: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[int] = []
    score = module.score_test
    monkeypatch.setattr(module, "score_test", lambda *given: scored.append(1) or score(*given))
    other = shutil.copytree(data, tmp_path / "data")
    asked = config(checkpoint, f"data.root={other}", "figures=false")
    same(evaluate(asked, tmp_path / "1"), run.metrics)
    os.utime(other / "test/hole/24.png", ns=(1, 1))
    evaluate(asked, tmp_path / "2")
    assert len(scored) == len(list(tmp_path.glob("scores-*.npz"))) == 2
    for cache in tmp_path.glob("scores-*.npz"):
        cache.write_bytes(cache.read_bytes()[:1000])
    same(evaluate(asked, tmp_path / "3"), run.metrics)
    assert len(scored) == 3


def test_a_cache_that_cannot_be_written_is_no_error(
    checkpoint: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module.score_cache, "write_atomically", refuse)
    same(evaluate(config(checkpoint, "figures=false"), tmp_path / "1"), run.metrics)
    assert not list(tmp_path.glob("scores-*"))
    assert {path.name for path in (tmp_path / "1").iterdir()} == {"metrics.json", "scores.csv", "thresholds.csv"}


def test_the_threshold_table_holds_the_chosen_one(run: Run) -> None:
    with run.folder.thresholds.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["threshold", "accuracy_normal", "accuracy_abnormal", "f1", "fpr", "tpr"]
    (chosen,) = (row for row in rows if float(row["threshold"]) == run.metrics["threshold"])
    for key, name in (("f1", "image_f1"), ("fpr", "test_fpr"), ("tpr", "test_tpr")):
        assert float(chosen[key]) == run.metrics[name]
    values = [float(row["threshold"]) for row in rows]
    assert values == sorted(values)
    scores = [row.score for row in read_scores(run.folder.scores)]
    assert min(scores) in values
    assert max(scores) in values


@pytest.mark.parametrize(("given", "expected"), [("auto", "there"), ("cuda:1", "cuda:1"), (None, "cpu")])
def test_the_detector_goes_where_it_is_told(
    given: str | None, expected: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed: list[str] = []
    monkeypatch.setattr(ScoringModel, "place", lambda _, device: placed.append(device))
    monkeypatch.setattr(module, "device_for", lambda device, _: "there" if device == "auto" else device)
    overrides = [] if given is None else [f"device={given}"]
    evaluate(config(checkpoint, "figures=false", *overrides), tmp_path / "run")
    assert placed[-1] == expected


# --- other data ---


@pytest.mark.thorough
def test_two_folders_are_read_as_the_checkpoint_says(run: Run, checkpoint: Path, data: Path, tmp_path: Path) -> None:
    folders = [f"data.normal_dir={data}/test/0.normal", f"data.abnormal_dir={data}/test/hole"]
    metrics = evaluate(config(checkpoint, *folders), tmp_path / "run")
    assert {row.path: row.score for row in read_scores(tmp_path / "run/scores.csv")} == pytest.approx(
        {row.path.removeprefix("test/"): row.score for row in read_scores(run.folder.scores)}, rel=1e-4
    )
    assert "pixel_auroc" not in metrics  # two folders have no masks
    same(metrics, {k: v for k, v in run.metrics.items() if not k.startswith("pixel_")})


@pytest.mark.thorough
@pytest.mark.parametrize(("key", "folder", "count"), [("normal", "0.normal", 4), ("abnormal", "hole", 3)])
def test_one_class_leaves_out_what_needs_two_and_says_so(
    key: str, folder: str, count: int, checkpoint: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = evaluate(config(checkpoint, f"data.{key}_dir={data}/test/{folder}"), tmp_path / "run")
    other = {"normal": "abnormal", "abnormal": "normal"}[key]
    assert (metrics[f"n_test_{key}"], metrics[f"n_test_{other}"]) == (count, 0)
    assert metrics["image_auroc"] is metrics["image_ap"] is metrics["image_f1"] is None
    assert (metrics["test_tpr"] is None) == (key == "normal")
    assert f"no {other} image" in metrics["test_note"]
    assert len(read_scores(tmp_path / "run/scores.csv")) == count
    assert len(list((tmp_path / "run/figures").iterdir())) == 5
    assert "one class only" in (tmp_path / "run/report.html").read_text()
    print_summary(metrics, RunFolder(tmp_path / "run"))
    assert f"note: no {other} image" in capsys.readouterr().out


TRAINED = {
    "name": "mvtec",
    "root": "/a",
    "category": "bottle",
    "image_size": 64,
    "channels": 3,
    "intensity_range": None,
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"name": "mvtec", "root": "/a", "category": "bottle"}),
        ({"root": "/b", "category": None}, {"name": "mvtec", "root": "/b", "category": "bottle"}),
        ({"normal_dir": "/n"}, {"name": "folder", "normal_dir": "/n"}),
        ({"name": "folder", "root": "/b", "normal_names": ["ok"]}, {"name": "folder", "root": "/b", "normal_names": ["ok"]}),
        ({"name": "elpv", "root": None}, {"name": "elpv", "root": None}),
        ({"batch_size": 7, "image_size": 64}, {"name": "mvtec", "root": "/a", "category": "bottle", "batch_size": 7}),
    ],
)  # fmt: skip
def test_what_is_given_replaces_the_data_of_the_checkpoint(given: dict[str, Any], expected: dict[str, Any]) -> None:
    reading = {"image_size": 64, "channels": 3, "intensity_range": None}
    assert evaluation_data(TRAINED, {"image_size": None, "channels": None, **given}) == {**reading, **expected}


def test_the_limit_of_a_training_is_not_that_of_other_images() -> None:
    trained = {**TRAINED, "limit": 50}
    assert evaluation_data(trained, {"limit": None})["limit"] == 50  # of the training's own
    for other in ({"root": "/b"}, {"normal_dir": "/n"}, {"name": "folder", "root": "/b"}):
        assert "limit" not in evaluation_data(trained, other)
        assert evaluation_data(trained, {**other, "limit": 7})["limit"] == 7


@pytest.mark.parametrize(("key", "value"), [("image_size", 128), ("channels", 1), ("intensity_range", [0, 4095])])
def test_images_cannot_be_read_otherwise(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"data.{key}=.*leave data.{key} out"):
        evaluation_data(TRAINED, {key: value})


# --- what people may get wrong ---


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["threshold.quantile=1.5"], "threshold.quantile=1.5: must lie between 0 and 1"),
        (["threshold=manual"], "threshold.value=None: not a number"),
        (["threshold.strategy=median"], "unknown; choose one of"),
        (["data.root=/no/such"], "data.root=/no/such.*does not exist"),
        (["data=folder"], "data.root is not set"),
        (["data.image_size=64"], "trained with 32"),
        (["data.contamination=0.1"], "an evaluation calibrates nothing"),
        (["data.category=bottle"], "no key category"),
        (["data.normal_dir=/no/such"], "data.normal_dir=/no/such"),
        (["view=true", "figures=false"], "view=true needs the figures"),
        (["figures=maybe"], "figures=maybe: give true or false"),
        (["view=maybe"], "view=maybe: give true or false"),
        (["device=nonsense"], "device=nonsense: not available here"),
    ],
)
def test_wrong_options_are_one_line_before_anything_is_scored(
    overrides: list[str], message: str, checkpoint: Path, tmp_path: Path, no_scoring: None
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        evaluate(config(checkpoint, *overrides), tmp_path / "run")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_wrong_checkpoints_are_one_line(run: Run, tmp_path: Path) -> None:
    good = read(run.folder.last_checkpoint)
    whole = run.folder.last_checkpoint.read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    torch.save({**good, "anomap": {**good["anomap"], "format": 99}}, tmp_path / "newer.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    for name, message in {
        "": "checkpoint is not set",
        "missing.ckpt": "no such file",
        "cut.ckpt": "not a readable checkpoint",
        "text.ckpt": "not a readable checkpoint",
        "newer.ckpt": "format 99",
        "other.ckpt": "no finished detector",
        "model.onnx": "exported",
    }.items():
        with pytest.raises(UserError, match=message) as raised:
            evaluate(config(tmp_path / name if name else ""), tmp_path / "run")
        assert "\n" not in str(raised.value)


def test_data_that_is_elsewhere_now_can_be_named(checkpoint: Path, tmp_path: Path) -> None:
    content = read(checkpoint)
    content["anomap"]["config"]["data"]["root"] = "/made/elsewhere"
    torch.save(content, checkpoint)
    with pytest.raises(UserError, match=r"trained on is not here .*/made/elsewhere.* give data.root=DIR"):
        evaluate(config(checkpoint), tmp_path / "run")


# --- the command ---


@pytest.mark.thorough
def test_the_worst_mistakes_are_shown_or_named(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    command(config(checkpoint, "view=true"), tmp_path / "run")
    assert f"no screen; see {tmp_path / 'run/figures/worst_mistakes.png'}" in capsys.readouterr().out
    opened: list[Path] = []
    monkeypatch.setattr(module, "open_picture", lambda path: opened.append(path) or True)
    command(config(checkpoint, "view=true"), tmp_path / "run")
    assert opened == [tmp_path / "run/figures/worst_mistakes.png"]


@pytest.mark.thorough
def test_a_sweep_over_thresholds_scores_once(checkpoint: Path, run: Run, tmp_path: Path) -> None:
    arguments = [
        *(f"checkpoint='{checkpoint}'", "threshold=quantile", "threshold.quantile=0.5,0.7,0.9"),
        f"hydra.sweep.dir={tmp_path / 'sweep'}",
    ]
    program = [sys.executable, str(Path(__file__).parents[2] / "scripts/evaluate.py"), "-m", *arguments]
    done = subprocess.run(program, capture_output=True, text=True, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("taken from") == 2  # of three
    jobs = [path.parent for path in (tmp_path / "sweep").glob("*/metrics.json")]
    metrics = {
        OmegaConf.load(job / ".hydra/config.yaml").threshold.quantile: read_metrics(job / "metrics.json")
        for job in jobs
    }
    assert sorted(metrics) == [0.5, 0.7, 0.9]
    assert len({found["image_auroc"] for found in metrics.values()}) == 1
    thresholds: list[Any] = [metrics[quantile]["threshold"] for quantile in sorted(metrics)]
    assert thresholds == sorted(thresholds)
    assert all((job / "scores.csv").is_file() and not (job / "report.html").exists() for job in jobs)


def test_names_that_training_excluded_are_not_looked_for_in_another_folder() -> None:
    trained = {**TRAINED, "exclude": ["train/good/000.png"]}
    assert evaluation_data(trained, {})["exclude"] == ["train/good/000.png"]
    assert "exclude" not in evaluation_data(trained, {"root": "/b"})
    assert evaluation_data(trained, {"root": "/b", "exclude": "list.txt"})["exclude"] == "list.txt"


def test_the_same_folder_written_otherwise_is_the_same_data(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`data.root=` relative, or with a slash at its end: what the training excluded stays out."""
    seen: list[dict[str, Any]] = []
    real = module.evaluation_data
    monkeypatch.setattr(module, "evaluation_data", lambda *given: seen.append(real(*given)) or seen[-1])
    run = runs("model=control_mean")
    root = Path(read(run.folder.last_checkpoint)["anomap"]["config"]["data"]["root"])
    monkeypatch.chdir(root.parent)
    for written in (root.name, f"{root}/"):
        evaluate(config(run.folder.last_checkpoint, f"data.root={written}"), tmp_path / "out")
        assert seen.pop()["root"] == str(root)
