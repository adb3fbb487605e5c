"""A data folder with `train/` alone: a calibrated detector, and nothing said about images that were never tested."""

from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from anomap.commands.evaluate import evaluate
from anomap.commands.export import export
from anomap.commands.train import train
from anomap.config import config_dir, plain
from anomap.detection.checkpoint import load_model
from anomap.errors import UserError
from anomap.runs.folder import RunFolder, read_metrics
from tests import tiny

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize("model", ["attention_network", "control_mean"])
def test_train_alone_gives_a_calibrated_detector(tmp_path: Path, model: str) -> None:
    root = tiny.write_folder(tmp_path / "data", train=12)
    for path in (root / "ground_truth", root / "test"):
        if path.exists():
            path.rename(tmp_path / path.name)
    run = RunFolder(tmp_path / "run")
    train(tiny.config(f"data.root={root}", f"model={model}", "figures=true"), run.path)
    metrics = read_metrics(run.metrics)
    assert metrics["n_test_normal"] == metrics["n_test_abnormal"] == 0
    assert (metrics["image_auroc"], metrics["image_f1"], metrics["test_fpr"]) == (None, None, None)
    assert metrics["score_images_per_second"] is None
    assert metrics["test_note"] == "there is no test set: what needs one is null"
    detector, _ = load_model(run.last_checkpoint)
    assert detector.threshold == metrics["threshold"]
    assert len(detector.calibration.scores) == metrics["n_calibration"] != 0
    assert np.isfinite(detector.threshold)
    assert "There is no test set" in run.report.read_text()
    assert run.scores.read_text().count("\n") == 1
    assert sorted(path.name for path in run.figures.iterdir())

    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        given = {**plain(compose("evaluate")), "checkpoint": str(run.last_checkpoint)}
        exported = {**plain(compose("export")), "checkpoint": str(run.last_checkpoint), "format": "exported_program"}
    with pytest.raises(UserError, match=f"data.root={root}: no test set there, so there is nothing to measure") as told:
        evaluate(given, tmp_path / "evaluated")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "evaluated").exists()
    assert export(exported).images == "8 of the run's training images"
