"""What `auto` became in a training, and a folder that was given relative, are the same for all later commands."""

from pathlib import Path

import pytest

from anomap.commands.evaluate import evaluate
from anomap.commands.train import train
from anomap.data.settle import settle
from anomap.detection.checkpoint import load_model
from anomap.detection.detector import Detector
from anomap.runs.folder import RunFolder
from anomap.training.checkpoints import goes_on, made_by
from tests import tiny


def test_a_grey_folder_is_one_channel_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write_folder(tmp_path / "here/data")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    auto = ("data.channels=auto", "data.intensity_range=auto", "controls=false", "logger=none")
    config = tiny.config("model=ganomaly", "data.root=data", *auto)
    run = RunFolder(tmp_path / "run")
    metrics = train(config, run.path)
    stored = load_model(run.last_checkpoint)[1]
    assert (stored["data"]["channels"], stored["data"]["intensity_range"]) == (1, [0.0, 255.0])
    assert stored["data"]["root"] == str(tmp_path / "here/data")
    assert stored["model"]["objective"]["generator"]["channels"] == 1
    assert config["data"]["channels"] == "auto"  # what was given is left as it is
    # the same command, started again, goes on from there; so does resume=, which has the numbers
    assert goes_on(run.last_checkpoint, settle(config)[0])
    assert made_by(run.last_checkpoint) == settle(stored)[0] == stored

    monkeypatch.chdir(tmp_path / "elsewhere")
    detector = Detector.load(run.last_checkpoint)
    assert (detector.preprocessing.channels, detector.preprocessing.intensity_range) == (1, (0.0, 255.0))
    given = {"checkpoint": run.last_checkpoint, "command": "evaluate", "device": "cpu", "figures": False, "view": False}
    again = evaluate({**given, "data": {}, "threshold": config["threshold"]}, tmp_path / "evaluation")
    assert (again["image_auroc"], again["n_test_normal"]) == (metrics["image_auroc"], metrics["n_test_normal"])
