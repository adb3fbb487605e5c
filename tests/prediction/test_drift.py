"""Has the world changed since calibration? What anomap-predict and the Python API say, and what they stay silent about."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from anomap import Detector
from anomap.commands.predict import command, predict
from anomap.detection import checkpoint
from anomap.detection.image_statistics import STATISTICS
from anomap.errors import UserError
from tests import tiny
from tests.data.helpers import save
from tests.finished import Run, Runs
from tests.prediction.test_predict import config

NEW = 24


@pytest.fixture(scope="session")
def run(runs: Runs) -> Run:
    return runs("model=control_pca", "data.calibration_fraction=0.6")


def images(folder: Path, gain: float = 1.0, count: int = NEW, seed: int = 50) -> Path:
    """Normals like those of training, times `gain`, on average as bright as those."""
    pixels = tiny.textures(count, seed=seed)[:, 0].numpy() * 255 * gain
    for number, image in enumerate(np.rint(pixels).astype(np.uint8)):
        save(folder / f"{seed}_{number}.png", image)
    return folder


def drift(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "drift.json").read_text())


def test_undisturbed_normals_are_quiet(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        predict(config(run, images(tmp_path / "input"), overlays="none"), tmp_path / "out")
    found = drift(tmp_path / "out")
    assert (found["changed"], found["text"], found["images"]) == (False, "", NEW)
    assert found["width"]["reference"] == found["width"]["now"] == tiny.SIZE
    assert not caplog.records


def test_other_light_is_said_in_one_line_and_changes_no_exit_status(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.WARNING):
        command(config(run, images(tmp_path / "input", 0.5), overlays="none"), tmp_path / "out")
    (line,) = [record.getMessage() for record in caplog.records]
    found = drift(tmp_path / "out")
    assert line == found["text"]
    assert "camera or light changed?" in line
    assert "brightness -5" in line
    assert found["brightness"]["verdict"] == "changed"
    assert found["brightness"]["change_percent"] == pytest.approx(-50, abs=5)
    assert found["height"]["verdict"] == "as at calibration"
    assert "drift        CHANGED since calibration" in capsys.readouterr().out


@pytest.mark.parametrize(("count", "said"), [(4, "too few images to tell (10 are needed), "), (12, "no change seen, ")])
def test_few_images_are_not_said_to_be_unchanged(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int, said: str
) -> None:
    command(config(run, images(tmp_path / "input", 1.0, count), overlays="none"), tmp_path / "out")
    assert f"drift        {said}" in capsys.readouterr().out


def test_what_was_scored_before_counts_and_what_is_gone_does_not(run: Run, tmp_path: Path) -> None:
    source, out = images(tmp_path / "input", 0.5, 8), tmp_path / "out"
    predict(config(run, source, overlays="none"), out)
    assert (drift(out)["images"], drift(out)["alarms_improbable"]) == (8, False)  # too few
    summary = predict(config(run, images(source, 0.5, 8, seed=60), overlays="none"), out)
    assert (summary.earlier, summary.scored) == (8, 8)
    assert (drift(out)["images"], drift(out)["alarms_improbable"]) == (16, True)
    again = drift(out)
    predict(config(run, source, overlays="none"), out)  # nothing is scored any more
    assert drift(out) == again
    for path in source.iterdir():
        path.unlink()
    predict(config(run, images(source, seed=70), overlays="none"), out)
    assert drift(out)["images"] == NEW
    assert not drift(out)["changed"]


def test_parts_of_an_older_version_are_read(run: Run, tmp_path: Path) -> None:
    """They hold no statistics: their scores are compared, and what is new entirely."""
    source, out = images(tmp_path / "input"), tmp_path / "out"
    predict(config(run, source, overlays="none"), out)
    for path in (out / "scores").iterdir():
        pq.write_table(pq.read_table(path).drop_columns(["statistics"]), path)
    images(source, count=5, seed=60)
    assert predict(config(run, source, overlays="none"), out).earlier == NEW
    found = drift(out)
    assert found["images"] == NEW + 5
    assert found["brightness"]["verdict"] == "too few images"


def test_a_checkpoint_without_statistics_scores_and_says_so(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = checkpoint.read(run.folder.last_checkpoint)
    del content["anomap"]["state"]["calibration.statistics"]
    old = tmp_path / "old.ckpt"
    torch.save(content, old)
    source, out = images(tmp_path / "input"), tmp_path / "out"
    with caplog.at_level(logging.WARNING):
        summary = predict({**config(run, source, overlays="none"), "checkpoint": str(old)}, out)
    assert summary.scored == NEW
    assert [record.getMessage() for record in caplog.records] == [
        "whether the world has changed cannot be watched: this detector is of an older anomap, which kept no statistics"
    ]
    assert not (out / "drift.json").exists()
    with pytest.raises(UserError, match="cannot be watched"):
        Detector.load(old).drift()


def test_the_detector_watches_what_it_is_given(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    detector = Detector.load(run.folder.last_checkpoint)
    plain = sorted(images(tmp_path / "plain").iterdir())
    dark = sorted(images(tmp_path / "dark", 0.5).iterdir())
    with caplog.at_level(logging.WARNING):
        detector.predict(plain)
        assert not detector.drift(forget=True).changed
        assert not caplog.records
        detector.score(dark)
    assert "of the last 24 images: " in caplog.text
    found = detector.drift()
    assert {*found.moved} == {"brightness", "contrast"}
    arrays = [np.full((40, 50), 90, np.uint8)] * 12
    detector.drift(forget=True)
    detector.predict(arrays)  # one by one, or as a batch
    for array in arrays:
        detector.predict(array)
    assert detector.drift().images == 24
    assert {"width", "height"} <= {*detector.drift().moved}
    assert detector.drift().statistics["width"].now == 50


def test_command_and_api_compare_the_same(run: Run, tmp_path: Path) -> None:
    source = images(tmp_path / "input", 0.8)
    predict(config(run, source, overlays="none", batch_size=5), tmp_path / "out")
    detector = Detector.load(run.folder.last_checkpoint)
    detector.predict(sorted(source.iterdir()))
    asked, told = detector.drift().to_dict(), drift(tmp_path / "out")
    for name in ("scores", *STATISTICS):
        numbers = {key: value for key, value in told[name].items() if isinstance(value, float)}
        assert {key: asked[name][key] for key in numbers} == pytest.approx(numbers, rel=1e-4, abs=1e-4), name


def test_the_reference_is_of_all_calibration_images(run: Run) -> None:
    reference = Detector.load(run.folder.last_checkpoint).reference
    assert reference is not None
    assert reference.statistics.shape == (run.metrics["n_calibration"], len(STATISTICS))
    assert len(reference.scores) == run.metrics["n_calibration"] - run.metrics["n_scaling"]
    assert (reference.statistics[:, 3:] == tiny.SIZE).all()
    assert reference.threshold == run.metrics["threshold"]
    assert run.metrics["test_fpr_p_value"] > 0
