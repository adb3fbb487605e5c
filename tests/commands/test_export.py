"""anomap-export: every model gives as a file what its checkpoint gives; a file that would not is never written."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from anomap import Detector
from anomap.commands.export import export, print_summary
from anomap.config import config_dir, plain
from anomap.detection import export as exporting
from anomap.detection.checkpoint import load_model
from anomap.detection.detector import Preprocessing
from anomap.detection.export import Parity, parity, probes
from anomap.detection.onnx_model import METADATA, OnnxModel
from anomap.detection.probe_images import probe_images
from anomap.detection.scoring import ScoringModel
from anomap.errors import UserError
from anomap.objectives import feature_controls
from tests import tiny
from tests.data.helpers import save
from tests.finished import Run, Runs

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.thorough


@pytest.fixture(scope="session")
def run(runs: Runs) -> Run:
    return runs("model=ganomaly")


def config(**given: Any) -> dict[str, Any]:
    """The plain configuration of `anomap-export`, with these keys."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return {**plain(compose("export")), **{key: str(v) if isinstance(v, Path) else v for key, v in given.items()}}


def noise(count: int, *size: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, tiny.CHANNELS, *(size or (tiny.SIZE,) * 2)), np.uint8)


# --- the file gives what the checkpoint gives ---


# the others take seconds each, and are for the slow job; test_agreement exports feature_adgan, too
QUICK = ("adgan", "ganomaly")


def quick_first(models: Iterable[str]) -> list[Any]:
    """The quick ones as they are, the others marked slow."""
    return [model if model in QUICK else pytest.param(model, marks=pytest.mark.slow) for model in models]


@pytest.mark.parametrize("model", quick_first(tiny.MODELS))
def test_onnx_gives_what_the_checkpoint_gives(
    runs: Runs, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_controls, "MEMORY_SLICE", 100)  # the memory of a tiny run is several slices
    checkpoint = runs(f"model={model}").folder.last_checkpoint
    outcome = export(config(checkpoint=checkpoint, output=tmp_path / "x.onnx"))
    assert outcome.images == "7 of the run's test images"
    assert outcome.size == (tmp_path / "x.onnx").stat().st_size
    assert os.listdir(tmp_path) == ["x.onnx"]
    eager, exported = Detector.load(checkpoint), Detector.load(tmp_path / "x.onnx")
    assert exported.preprocessing == eager.preprocessing
    assert (exported.threshold, exported.pixel_threshold, exported.map_scale) == (
        *(eager.threshold, eager.pixel_threshold),
        eager.map_scale,
    )
    for count in (1, 3, 70):  # more cells than any slice that could be built into the graph
        for expected, found in zip(eager.score_batch(noise(count)), exported.score_batch(noise(count)), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    other = noise(3, 50, 41)
    found, expected = OnnxModel.load(tmp_path / "x.onnx").run(other), load_model(checkpoint)[0].run(other)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4, atol=1e-4 * np.abs(expected[0]).max())
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-4, atol=1e-4 * np.abs(expected[1]).max())


PROGRAMS = {"ganomaly", "skip_cbam_sa_ganomaly", "control_patch_memory", "feature_adgan"}


@pytest.mark.parametrize("model", quick_first(sorted(PROGRAMS.intersection(tiny.MODELS))))
def test_an_exported_program_gives_what_the_checkpoint_gives(runs: Runs, model: str, tmp_path: Path) -> None:
    checkpoint = runs(f"model={model}").folder.last_checkpoint
    export(config(checkpoint=checkpoint, output=tmp_path / "x.pt2", format="exported_program"))
    extra = {METADATA: ""}
    module = torch.export.load(tmp_path / "x.pt2", extra_files=extra).module()
    eager, trained = load_model(checkpoint)
    assert json.loads(extra[METADATA]) == exporting.metadata(eager, trained)
    for images in (noise(1), noise(70), noise(2, 50, 41)):
        score, anomaly_map, decision = module(torch.from_numpy(images))
        expected_score, expected_map = eager.run(images)
        np.testing.assert_allclose(score.numpy(), expected_score, rtol=1e-4)
        np.testing.assert_allclose(anomaly_map.numpy(), expected_map, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(decision.numpy(), score.double().numpy() > eager.threshold)


def test_the_metadata_is_the_checkpoints(run: Run, tmp_path: Path) -> None:
    export(config(checkpoint=run.folder.last_checkpoint, output=tmp_path / "x.onnx"))
    found = OnnxModel.load(tmp_path / "x.onnx")
    assert found.threshold == run.metrics["threshold"]
    assert found.metadata["model"] == "ganomaly"
    assert found.metadata["calibration"] == {"n_images": run.metrics["n_calibration"], **run.config["threshold"]}
    assert found.metadata["preprocessing"] == {
        "channels": tiny.CHANNELS,
        "size": [tiny.SIZE, tiny.SIZE],
        "intensity_range": None,
        "max_pixels": run.config["data"]["max_pixels"],
        "bands": None,
        "background": "black",
    }


def test_the_file_lies_beside_the_checkpoint_and_its_use_is_said(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "seed=0"
    folder.mkdir()
    (folder / "last.ckpt").write_bytes(run.folder.last_checkpoint.read_bytes())
    print_summary(export(config(checkpoint=folder / "last.ckpt")))
    print_summary(export(config(checkpoint=folder / "last.ckpt", format="exported_program")))
    assert sorted(os.listdir(folder)) == ["last.ckpt", "last.onnx", "last.pt2"]
    said = capsys.readouterr().out
    assert f"anomap-predict checkpoint={folder}/last.onnx input=DIR" in said
    assert f'torch.export.load("{folder}/last.pt2").module()(images)' in said
    assert len(re.findall(r"differences  scores \S+ of \S+ allowed, maps \S+ of \S+", said)) == 2


# --- a file that would not is never written ---


@pytest.mark.parametrize("shape", [(1, tiny.SIZE, tiny.SIZE), (1, 5, 5)])
def test_a_file_that_fails_the_check_is_not_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    output = tmp_path / "x.onnx"
    output.write_bytes(b"the old file")
    monkeypatch.setattr(ScoringModel, "run", lambda _, x: (np.ones(len(x)), np.ones((len(x), *shape))))
    with pytest.raises(UserError, match=r"x\.onnx: not written.*scores .* allowed, maps .*tolerance=0\.001"):
        export(config(checkpoint=run.folder.last_checkpoint, output=output))
    assert output.read_bytes() == b"the old file"
    assert os.listdir(tmp_path) == ["x.onnx"]


def test_a_tolerance_that_no_rounding_meets_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not written"):
        export(config(checkpoint=run.folder.last_checkpoint, output=tmp_path / "x.onnx", tolerance=1e-12))
    assert os.listdir(tmp_path) == []


def test_parity_counts_against_what_matters(run: Run) -> None:
    model, _ = load_model(run.folder.last_checkpoint)
    batches = probes(noise(4))
    assert [len(batch) for batch in batches] == [1, 3, 4, 4]
    assert batches[-1].shape[2:] == (tiny.SIZE, 2 * tiny.SIZE - 1)
    assert len(probes(noise(1))[1]) == 3

    def shifted(score: float, level: float) -> Parity:
        def run(images: Any) -> Any:
            scores, maps = model.run(images)
            return scores + score, maps + np.float32(level), scores + score > model.threshold

        return parity(model, run, batches)

    exact = shifted(0, 0)
    assert (exact.score, exact.anomaly_map) == (0, 0)
    assert exact.within(1e-9)
    assert exact.score_unit >= float(model.calibration.scores.double().std(correction=0))
    assert exact.map_unit >= model.map_scale[1] - model.map_scale[0]
    assert shifted(0.9e-3 * exact.score_unit, 0.9e-3 * exact.map_unit).within(1e-3)
    assert not shifted(1.1e-3 * exact.score_unit, 0).within(1e-3)
    assert not shifted(0, 1.1e-3 * exact.map_unit).within(1e-3)
    assert not shifted(np.nan, 0).within(1e9)
    assert not shifted(0, np.nan).within(1e9)
    wrong = parity(model, lambda x: (*model.run(x), np.full(len(x), model.run(x)[0] <= model.threshold)), batches)
    assert not wrong.within(1e9)


# --- the images it is checked on ---


def test_images_of_a_folder(tmp_path: Path) -> None:
    for number in range(20):
        save(tmp_path / f"{number:02d}.png", np.full((9, 9), number, np.uint8))
    images, origin = probe_images(str(tmp_path), {}, Preprocessing(1, (4, 4)))
    assert images.shape == (8, 1, 4, 4)
    assert (images.min(), images.max()) == (0, 19)
    assert origin == f"8 images of {tmp_path}"
    with pytest.raises(UserError, match=r"images=.*nowhere: no such folder"):
        probe_images(str(tmp_path / "nowhere"), {}, Preprocessing(1, (4, 4)))


def test_noise_when_the_data_is_gone(run: Run) -> None:
    data = {**run.config["data"], "root": "gone"}
    images, origin = probe_images(None, data, Preprocessing(3, (32, 64)))
    assert images.shape == (8, 3, 32, 64)
    assert images.dtype == np.uint8
    assert "noise" in origin
    assert "gone" in origin


@pytest.mark.elpv
@pytest.mark.skipif(importlib.util.find_spec("elpv_dataset") is None, reason="elpv-dataset is not installed")
def test_solar_cells(run: Run) -> None:
    data = {key: value for key, value in run.config["data"].items() if key not in ("normal_names", "root")}
    for key in ("normal_dir", "abnormal_dir"):
        data.pop(key, None)
    images, origin = probe_images(None, {**data, "name": "elpv"}, Preprocessing(1, (32, 32)))
    assert images.shape == (8, 1, 32, 32)
    assert origin == "8 of the run's test images"


# --- what the user gave ---


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"checkpoint": None}, "checkpoint is not set: give checkpoint=CKPT"),
        ({"checkpoint": "nowhere/last.ckpt"}, "checkpoint=nowhere/last.ckpt: no such file"),
        ({"checkpoint": "last.onnx"}, "checkpoint=last.onnx: is exported already"),
        ({"format": "tflite"}, "format=tflite: give one of onnx, exported_program"),
        ({"format": None}, "format=None: give one of"),
        ({"format": ["onnx"]}, r"format=\['onnx'\]: give one of"),
        ({"output": "x.pb"}, r"output=x\.pb: name it \.onnx"),
        ({"output": "nowhere/x.onnx"}, "there is no folder nowhere"),
        ({"output": "folder.onnx"}, r"folder\.onnx: is a folder"),
        ({"tolerance": 0}, "tolerance=0: give a positive number"),
        ({"tolerance": "much"}, "tolerance=much"),
        ({"images": "nowhere"}, "images=nowhere: no such folder"),
    ],
)
def test_bad_input_is_told_in_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(UserError, match=message) as error:
        export(config(**{"checkpoint": run.folder.last_checkpoint, "output": "x.onnx", **given}))
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == ["folder.onnx"]


def test_a_folder_that_cannot_be_written_to_is_told_first(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests may run as root, who may write anywhere
    with pytest.raises(UserError, match="cannot be written to"):
        export(config(checkpoint=run.folder.last_checkpoint, output=tmp_path / "x.onnx"))


def test_a_full_disk_is_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("anomap.commands.export.write_atomically", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        export(config(checkpoint=run.folder.last_checkpoint, output=tmp_path / "x.onnx"))


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_without_the_extra_it_is_named(run: Run, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf'needs {package}; pip install "anomap\[onnx\]"'):
        export(config(checkpoint=run.folder.last_checkpoint))


def test_more_weights_than_a_file_holds_are_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "ONNX_LIMIT", 10)
    with pytest.raises(UserError, match="give format=exported_program"):
        export(config(checkpoint=run.folder.last_checkpoint))
    assert not run.folder.last_checkpoint.with_suffix(".onnx").exists()


def test_the_command_line_says_only_what_matters(run: Run, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from anomap.cli.entry import export; export()"]
    keys = [
        f"checkpoint={run.folder.last_checkpoint}",
        f"output={tmp_path / 'x.onnx'}",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]
    done = subprocess.run([*command, *keys], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        *("exported", "size", "checked", "differences", "use")
    ]
    assert done.stderr == ""
