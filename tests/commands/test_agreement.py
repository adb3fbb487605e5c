"""One scoring path: training, evaluation, prediction, the Python API and the exported file say the same of the same images."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from anomap import Detector
from anomap.commands.evaluate import evaluate
from anomap.commands.export import export
from anomap.commands.predict import predict
from anomap.config import config_dir, plain
from tests import tiny
from tests.finished import Runs
from tests.tables import read_scores

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.thorough


def config(command: str, **given: Any) -> dict[str, Any]:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return {**plain(compose(command)), **{k: str(v) if isinstance(v, Path) else v for k, v in given.items()}}


def predicted(folder: Path) -> dict[str, float]:
    lines = (folder / "scores.csv").read_text().splitlines()[1:]
    return {f"test/{line.split(',')[0]}": float(line.split(",")[1]) for line in lines}


@pytest.mark.parametrize("model", [pytest.param("adgan", marks=pytest.mark.slow), "feature_adgan"])
def test_all_ways_to_a_score_agree(model: str, runs: Runs, tmp_path: Path) -> None:
    if model not in tiny.MODELS:
        pytest.skip(f"{model} needs the extra [pretrained]")
    run = runs(f"model={model}")
    checkpoint, images = run.folder.last_checkpoint, runs.data / "test"
    trained = {row.path: row.score for row in read_scores(run.folder.scores)}

    evaluate(config("evaluate", checkpoint=checkpoint, figures=False), tmp_path / "evaluate")
    evaluated = {row.path: row.score for row in read_scores(tmp_path / "evaluate" / "scores.csv")}

    export(config("export", checkpoint=checkpoint, output=tmp_path / "x.onnx"))
    for name, file in (("predict", checkpoint), ("predict_onnx", tmp_path / "x.onnx")):
        predict(config("predict", checkpoint=file, input=images, recursive=True, overlays="none"), tmp_path / name)

    scores = Detector.load(checkpoint).score([runs.data / path for path in trained])
    ways = {
        "evaluate": evaluated,
        "predict": predicted(tmp_path / "predict"),
        "predict_onnx": predicted(tmp_path / "predict_onnx"),
        "python": dict(zip(trained, scores.tolist(), strict=True)),
    }
    # float32, and ONNX Runtime adds up in another order; scores are sums of parts in units of their deviation
    for name, found in ways.items():
        tolerance = 1e-3 if name == "predict_onnx" else 1e-4
        assert found == pytest.approx(trained, rel=tolerance, abs=tolerance), name
