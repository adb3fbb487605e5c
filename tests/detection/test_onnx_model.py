"""Exported files: what is no such file is refused in one line, and torch is not needed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomap.detection import export
from anomap.detection.detector import Detector
from anomap.detection.onnx_model import FORMAT, METADATA, OnnxModel, open_session
from anomap.detection.scoring import ScoringModel
from anomap.errors import UserError
from tests import tiny
from tests.data.helpers import save

onnx: Any = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model() -> ScoringModel:
    """Calibrated, with two parts in its score."""
    made = ScoringModel(tiny.busy(tiny.objective("adgan")), (tiny.SIZE, tiny.SIZE))
    made.calibrate([{"image": tiny.textures(8)}])
    made.set_threshold({"strategy": "quantile", "quantile": 0.6})
    return made


@pytest.fixture(scope="module")
def folder(model: ScoringModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `last.onnx` and `part.png`."""
    folder = tmp_path_factory.mktemp("exported")
    facts = export.metadata(model, tiny.config("model=adgan"))
    (folder / "last.onnx").write_bytes(export.to_onnx(export.trace(model, tiny.CHANNELS), facts))
    save(folder / "part.png", seed=1, size=(40, 50))
    return folder


def rewritten(source: Path, path: Path, metadata: str | None) -> Path:
    """The file with other metadata."""
    proto = onnx.load(source)
    del proto.metadata_props[:]
    if metadata is not None:
        onnx.helper.set_model_props(proto, {METADATA: metadata})
    onnx.save(proto, path)
    return path


def noise(count: int, *size: int) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, tiny.CHANNELS, *size), np.uint8)


@pytest.mark.parametrize("size", [(tiny.SIZE, tiny.SIZE), (50, 41), (20, 90), (1, 7)])
@pytest.mark.parametrize("count", [1, 5])
def test_any_number_of_images_of_any_size(model: ScoringModel, folder: Path, count: int, size: tuple[int, int]) -> None:
    images = noise(count, *size)
    scores, maps = OnnxModel.load(folder / "last.onnx").run(images)
    expected_scores, expected_maps = model.run(images)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(maps, expected_maps, rtol=1e-4, atol=1e-5)
    assert (scores.dtype, maps.dtype) == (np.float64, np.float32)


def test_the_decision_is_in_the_graph(model: ScoringModel, folder: Path) -> None:
    images = np.concatenate([noise(4, tiny.SIZE, tiny.SIZE), (tiny.textures(8).numpy() * 255).astype(np.uint8)])
    score, decision = open_session(str(folder / "last.onnx")).run(["score", "is_anomaly"], {"images": images})
    assert decision.dtype == np.bool_
    assert set(decision.tolist()) == {True, False}
    np.testing.assert_array_equal(decision, score.astype(np.float64) > model.threshold)


def test_the_file_says_what_it_is_and_nothing_of_this_machine(model: ScoringModel, folder: Path) -> None:
    loaded = OnnxModel.load(folder / "last.onnx")
    assert (loaded.threshold, loaded.pixel_threshold, loaded.map_scale) == (
        *(model.threshold, model.pixel_threshold),
        model.map_scale,
    )
    assert loaded.metadata["model"] == "adgan"
    assert loaded.metadata["calibration"] == {"n_images": 8, "strategy": "quantile", "quantile": 0.95}
    assert str(Path(export.__file__).parents[1]).encode() not in (folder / "last.onnx").read_bytes()


def test_a_damaged_file_is_refused(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "last.onnx").read_bytes()
    for name, content in {"half": whole[: len(whole) // 2], "junk": b"junk" * 99, "empty": b""}.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}\.onnx: (not a readable ONNX file|an ONNX file, but not one)"):
            Detector.load(path)


@pytest.mark.parametrize("metadata", [None, "", "nonsense", "{}", "[]", "3", '{"format": 1}'])
def test_a_foreign_file_is_refused(folder: Path, tmp_path: Path, metadata: str | None) -> None:
    path = rewritten(folder / "last.onnx", tmp_path / "foreign.onnx", metadata)
    with pytest.raises(UserError, match=r"foreign\.onnx: an ONNX file, but not one that anomap-export wrote"):
        Detector.load(path)


def test_a_newer_format_is_refused(folder: Path, tmp_path: Path) -> None:
    facts = {**OnnxModel.load(folder / "last.onnx").metadata, "format": FORMAT + 1}
    path = rewritten(folder / "last.onnx", tmp_path / "newer.onnx", json.dumps(facts))
    with pytest.raises(UserError, match=r"newer\.onnx: ONNX format 2, this anomap reads 1"):
        Detector.load(path)


def test_without_onnxruntime_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r'pip install "anomap\[onnx\]"'):
        Detector.load(folder / "last.onnx")


def test_neither_torch_nor_lightning_is_needed(folder: Path) -> None:
    program = (
        "import sys; from anomap import Detector\n"
        "found = Detector.load('last.onnx').predict('part.png')\n"
        "found.regions(), found.save('drawn.png'), found.attention_map\n"
        "print(found.score)\n"
        "print(sorted({'torch', 'pytorch_lightning', 'lightning', 'hydra'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    score, imported = done.stdout.splitlines()
    assert imported == "[]"
    assert float(score) == pytest.approx(Detector.load(folder / "last.onnx").score(folder / "part.png")[0], rel=1e-6)
