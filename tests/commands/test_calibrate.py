"""Scale and thresholds anew from new normals: the old promise is withdrawn, the new one holds, and everything uses it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomap import Detector
from anomap.commands import calibrate as module
from anomap.commands.calibrate import calibrate, command, threshold_config
from anomap.commands.evaluate import evaluate
from anomap.commands.export import export
from anomap.commands.predict import predict
from anomap.commands.train import train
from anomap.detection.checkpoint import load_model, read
from anomap.errors import UserError
from anomap.runs.folder import RunFolder, read_metrics
from tests import tiny
from tests.commands.test_agreement import config as whole
from tests.finished import Run, Runs
from tests.tables import read_scores

pytestmark = pytest.mark.thorough


def normals(folder: Path, count: int = 30, factor: float = 1.25, seed: int = 7, size: Any = tiny.SIZE) -> Path:
    """Images of the kind that the run was trained on, brighter by a factor."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(tiny.textures(count, 1, size, seed)[:, 0].numpy()):
        Image.fromarray(np.clip(pixels * 255 * factor, 0, 255).astype(np.uint8)).save(folder / f"{number:02d}.png")
    return folder


def config(path: object, root: object, data: dict[str, Any] | None = None, **given: Any) -> dict[str, Any]:
    found = whole("calibrate", checkpoint=Path(str(path)), **given)
    return {**found, "data": {**found["data"], "root": None if root is None else str(root), **(data or {})}}


@pytest.fixture
def run(runs: Runs, tmp_path: Path) -> Run:
    """A copy, so that new checkpoints do not stay."""
    made = runs("model=attention_network")
    shutil.copytree(made.folder.path, tmp_path / "run")
    return Run(made.config, RunFolder(tmp_path / "run"), made.metrics)


def test_the_new_normals_pass_and_the_old_checkpoint_stays(run: Run, tmp_path: Path) -> None:
    old = run.folder.last_checkpoint
    content, root = old.read_bytes(), normals(tmp_path / "new")
    found = calibrate(config(old, root), tmp_path / "calibrated")
    new = Path(found["checkpoint"])
    assert (new.parent, new.name) == (old.parent, "last-recalibrated.ckpt")
    assert old.read_bytes() == content
    assert read_metrics(tmp_path / "calibrated/metrics.json") == json.loads(json.dumps(found))

    before, after = Detector.load(old), Detector.load(new)
    paths = sorted(root.iterdir())
    assert found["old_alarms"] == int((before.score(paths) > before.threshold).sum())
    assert (found["old_threshold"], found["old_promised_fpr"]) == (
        run.metrics["threshold"],
        run.metrics["promised_fpr"],
    )
    assert (found["n_calibration"], found["n_scaling"]) == (30, 15)
    rows = read_scores(tmp_path / "calibrated/scores.csv")
    assert [row.score for row in rows] == pytest.approx(after.score(paths).tolist(), rel=1e-5)
    assert after.threshold == found["threshold"]
    # 15 set it: their largest score, which promises 1 / 16
    assert found["promised_fpr"] == 1 / 16
    scaling = load_model(new)[0].calibration.scaling.numpy()
    scores = np.array([row.score for row in rows])
    assert found["threshold"] == scores[~scaling].max()


def test_it_says_what_was_promised_before_and_is_now(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(config(run.folder.last_checkpoint, normals(tmp_path / "new", factor=1.6)), tmp_path / "calibrated")
    said = capsys.readouterr().out
    promised = 100 * run.metrics["promised_fpr"]
    assert (
        f"the promise of last.ckpt (at most {promised:.1f} % false alarms) no longer holds; this one promises" in said
    )
    assert "at most 6.2 %, from 15 normals" in said
    assert f"the old threshold alarms on 30 of 30 of these normals, where it promised at most {promised:.1f} %" in said
    assert "too few to promise a false-positive rate of 0.05 (19 are needed)" in said


def test_it_carries_where_its_calibration_comes_from(run: Run, tmp_path: Path) -> None:
    root = normals(tmp_path / "new")
    found = calibrate(config(run.folder.last_checkpoint, root), tmp_path / "calibrated")
    note = load_model(found["checkpoint"])[1]["calibration"]
    assert (note["source"], note["images"]) == (str(root), 30)
    assert note["instead_of"] == str(run.folder.last_checkpoint)
    evaluated = evaluate(whole("evaluate", checkpoint=Path(found["checkpoint"]), figures=False), tmp_path / "evaluated")
    assert evaluated["calibration_source"] == str(root)
    assert evaluated["n_train"] == run.metrics["n_train"]
    assert (evaluated["threshold"], evaluated["n_calibration"]) == (found["threshold"], 30)
    assert evaluated["n_test_abnormal"] == 3  # the test set of the training
    assert "optimizer_states" not in read(found["checkpoint"])


def test_evaluation_prediction_and_the_exported_file_agree(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    found = calibrate(config(run.folder.last_checkpoint, normals(tmp_path / "new")), tmp_path / "calibrated")
    path, images = Path(found["checkpoint"]), Path(run.config["data"]["root"]) / "test"
    evaluate(whole("evaluate", checkpoint=path, figures=False), tmp_path / "evaluated")
    scores = {row.path: row.score for row in read_scores(tmp_path / "evaluated/scores.csv")}
    export(whole("export", checkpoint=path, output=tmp_path / "x.onnx"))
    assert Detector.load(tmp_path / "x.onnx").threshold == found["threshold"]
    for file in (path, tmp_path / "x.onnx"):
        folder = tmp_path / f"predicted{file.suffix}"
        predict(whole("predict", checkpoint=file, input=images, recursive=True, overlays="none"), folder)
        lines = [line.split(",") for line in (folder / "scores.csv").read_text().splitlines()[1:]]
        assert {f"test/{line[0]}": float(line[1]) for line in lines} == pytest.approx(scores, rel=1e-4, abs=1e-4)


def test_photographs_in_tiles_count_whole(tmp_path: Path) -> None:
    root = tiny.write_photographs(tmp_path / "photographs")
    options = (
        "model=attention_network",
        "data.tile=32",
        "data.calibration_fraction=0.4",
        "controls=false",
        "logger=none",
    )
    train(tiny.config(f"data.root={root}", *options), tmp_path / "run")
    new = normals(tmp_path / "new/good", 6, size=(70, 50))
    normals(tmp_path / "new/good/more", 5, seed=8, size=(40, 90))
    found = calibrate(config(tmp_path / "run/checkpoints/last.ckpt", tmp_path / "new"), tmp_path / "calibrated")
    assert (found["n_calibration"], found["n_scaling"]) == (11, 5)
    detector = Detector.load(found["checkpoint"])
    paths = sorted(new.rglob("*.png"))
    rows = {row.path: row.score for row in read_scores(tmp_path / "calibrated/scores.csv")}
    assert rows == pytest.approx(
        dict(zip((str(path.relative_to(tmp_path / "new")) for path in paths), detector.score(paths), strict=True)),
        rel=1e-4,
    )
    assert detector.predict(paths[0]).anomaly_map.shape == (70, 50)


# --- which images ---


def test_images_that_were_trained_on_are_refused_or_left_out(run: Run, tmp_path: Path) -> None:
    root = normals(tmp_path / "new", 6)
    for number, path in enumerate(sorted((Path(run.config["data"]["root"]) / "train/0.normal").iterdir())):
        shutil.copy(path, root / f"x{number:02d}.png")  # 20, of which some calibrated
    n_train, n_held = run.metrics["n_train"], run.metrics["n_calibration"]
    with pytest.raises(UserError, match=f"{n_train} of 26 images were trained on"):
        calibrate(config(run.folder.last_checkpoint, root), tmp_path / "calibrated")
    assert not (tmp_path / "calibrated").exists()
    found = calibrate(config(run.folder.last_checkpoint, root, {"on_error": "skip"}), tmp_path / "calibrated")
    assert (found["n_calibration"], found["unknown_note"]) == (6 + n_held, None)


def test_the_very_folder_of_the_training_is_refused(run: Run, tmp_path: Path) -> None:
    own = run.config["data"]["root"]
    with pytest.raises(UserError, match="were trained on"):
        calibrate(config(run.folder.last_checkpoint, own), tmp_path)


def test_it_says_where_nobody_knows_what_was_trained_on(tmp_path: Path) -> None:
    root = tiny.write_folder(tmp_path / "data")
    train(tiny.config(f"data.root={root}", "model=control_mean", "logger=none", "controls=false"), tmp_path / "run")
    checkpoint, new = tmp_path / "run/checkpoints/last.ckpt", normals(tmp_path / "new")
    assert calibrate(config(checkpoint, new), tmp_path / "a")["unknown_note"] is None
    (root / "train/0.normal/03.png").unlink()
    (root / "train/0.normal/04.png").unlink()
    assert (
        "not all images of the training are there" in calibrate(config(checkpoint, new), tmp_path / "b")["unknown_note"]
    )
    shutil.rmtree(root)
    assert "not where they were" in calibrate(config(checkpoint, new), tmp_path / "c")["unknown_note"]


def test_a_layouts_test_set_is_left_alone(run: Run, tmp_path: Path) -> None:
    normals(tmp_path / "new/train/good", 8)
    normals(tmp_path / "new/test/good", 5, seed=9)
    normals(tmp_path / "new/test/hole", 3, seed=10)
    checkpoint = run.folder.last_checkpoint
    assert calibrate(config(checkpoint, tmp_path / "new"), tmp_path / "a")["n_calibration"] == 8
    two = {"normal_dir": str(tmp_path / "new/test/good")}
    assert calibrate(config(checkpoint, None, two), tmp_path / "b")["n_calibration"] == 5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"root": None}, "data.root is not set"),
        ({"image_size": 64}, "data.image_size=64: the checkpoint was trained with 32"),
        ({"root": "nowhere"}, "does not exist"),
    ],
)
def test_wrong_data_is_one_line(given: dict[str, Any], said: str, run: Run, tmp_path: Path) -> None:
    asked = config(run.folder.last_checkpoint, normals(tmp_path / "new", 5), given)
    with pytest.raises(UserError, match=said) as raised:
        calibrate(asked, tmp_path / "calibrated")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "calibrated").exists()


def test_too_few_say_what_they_can_promise(run: Run, runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"3 normal image\(s\) are too few: .* 33 % false alarms at most"):
        calibrate(config(run.folder.last_checkpoint, normals(tmp_path / "new", 3)), tmp_path / "a")
    one = runs("model=control_mean", "controls=false")  # a score of one part has no scale
    asked = config(one.folder.last_checkpoint, normals(tmp_path / "one", 1), output=str(tmp_path / "one.ckpt"))
    found = calibrate(asked, tmp_path / "b")
    assert (found["n_calibration"], found["n_scaling"], found["promised_fpr"]) == (1, 0, 0.5)
    assert "which promises 0.5" in found["threshold_note"]


def test_suspected_defects_among_the_new_normals_do_not_count(run: Run, tmp_path: Path) -> None:
    root = normals(tmp_path / "new", 40)
    plain, wary = (
        calibrate(config(run.folder.last_checkpoint, root, {"contamination": share}), tmp_path / "found")
        for share in (None, 0.2)
    )
    assert "4 highest of 20 calibration scores do not count" in wary["threshold_note"]
    assert plain["promised_fpr"] < wary["promised_fpr"]
    detector, kept = load_model(wary["checkpoint"])
    assert kept["data"]["contamination"] == detector.contamination == 0.2
    assert load_model(plain["checkpoint"])[0].contamination == 0


# --- where it goes, and which threshold ---


def test_nothing_is_ever_overwritten(run: Run, tmp_path: Path) -> None:
    root = normals(tmp_path / "new", 6)
    paths = [Path(calibrate(config(run.folder.last_checkpoint, root), tmp_path / "a")["checkpoint"]) for _ in range(2)]
    again = Path(calibrate(config(paths[1], root), tmp_path / "b")["checkpoint"])
    assert [path.name for path in (*paths, again)] == [f"last-recalibrated{end}.ckpt" for end in ("", "-2", "-3")]
    with pytest.raises(UserError, match="exists, and is not overwritten"):
        calibrate(config(run.folder.last_checkpoint, root, output=str(paths[0])), tmp_path / "c")
    with pytest.raises(UserError, match="there is no folder"):
        calibrate(config(run.folder.last_checkpoint, root, output=str(tmp_path / "no/x.ckpt")), tmp_path / "c")
    own = calibrate(config(run.folder.last_checkpoint, root, output=str(tmp_path / "own.ckpt")), tmp_path / "c")
    assert Detector.load(tmp_path / "own.ckpt").threshold == own["threshold"]


def test_of_two_at_a_time_none_takes_the_others_name(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one ends while this one scores; and what cannot be written leaves nothing."""
    root, place = normals(tmp_path / "new", 6), run.folder.last_checkpoint
    real = module.recalibrate

    def meanwhile(*given: Any) -> Any:
        place.with_name("last-recalibrated.ckpt").write_bytes(b"the other's")
        return real(*given)

    monkeypatch.setattr(module, "recalibrate", meanwhile)
    metrics = calibrate(config(place, root), tmp_path / "a")
    assert Path(metrics["checkpoint"]).name == "last-recalibrated-2.ckpt"
    assert place.with_name("last-recalibrated.ckpt").read_bytes() == b"the other's"

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.checkpoint, "save", full)
    with pytest.raises(OSError, match="No space"):
        calibrate(config(place, root), tmp_path / "b")
    assert not place.with_name("last-recalibrated-3.ckpt").exists()


def test_calibrated_twice_on_the_same_images_is_the_same(run: Run, tmp_path: Path) -> None:
    root = normals(tmp_path / "new", 12)
    first = calibrate(config(run.folder.last_checkpoint, root), tmp_path / "a")
    second = calibrate(config(first["checkpoint"], root), tmp_path / "b")
    assert second["threshold"] == pytest.approx(first["threshold"], rel=1e-6)
    assert second["old_alarms"] <= 6  # none of those that set the threshold


def test_a_threshold_is_the_trainings_unless_another_is_given() -> None:
    trained = {"strategy": "quantile", "quantile": 0.9}
    nothing = {"strategy": None, "quantile": None}
    assert threshold_config(nothing, trained) == trained
    assert threshold_config({"strategy": None, "quantile": 0.99}, trained) == {**trained, "quantile": 0.99}
    assert threshold_config({"strategy": "gaussian", "quantile": 0.95}, trained)["strategy"] == "gaussian"
    for strategy in ("manual", "oracle_f1"):
        with pytest.raises(UserError, match="is not set from normal images"):
            threshold_config(nothing, {"strategy": strategy})


def test_an_exported_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").touch()
    with pytest.raises(UserError, match="cannot be calibrated anew"):
        calibrate(config(tmp_path / "x.onnx", tmp_path), tmp_path)
