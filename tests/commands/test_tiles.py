"""Photographs of different sizes in tiles: training, evaluation, prediction, the Python API and exported files agree."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomap import Detector
from anomap.commands.evaluate import evaluate
from anomap.commands.export import export
from anomap.commands.predict import predict
from anomap.commands.train import train
from anomap.data.build import build_data
from anomap.detection.checkpoint import load_model
from anomap.errors import UserError
from anomap.runs.folder import RunFolder
from tests import tiny
from tests.commands.test_agreement import config, predicted
from tests.tables import read_scores

pytestmark = pytest.mark.thorough

OPTIONS = ("model=attention_network", "data.tile=32", "data.calibration_fraction=0.4", "figures=true")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def run(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("run")
    return RunFolder(folder), train(tiny.config(f"data.root={photographs}", *OPTIONS), folder)


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, dict[str, Any], Path]:
    """Compared place by place, which photographs of one size allow."""
    root, folder = (tmp_path_factory.mktemp(name) for name in ("one_size", "aligned"))
    tiny.write_photographs(root, shapes=[(70, 90)])
    return RunFolder(folder), train(tiny.config(f"data.root={root}", *OPTIONS, "data.aligned=true"), folder), root


@pytest.fixture(scope="module")
def looks(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, dict[str, Any]]:
    """Two looks at each photograph: as a whole, and at twice the size in tiles."""
    folder = tmp_path_factory.mktemp("looks")
    given = [OPTIONS[0], "data.image_size=32", "data.scales=[1,2]", *OPTIONS[2:]]
    return RunFolder(folder), train(tiny.config(f"data.root={photographs}", *given), folder)


def test_training_counts_photographs_and_measures_at_their_size(run: tuple[RunFolder, dict[str, Any]]) -> None:
    _, metrics = run
    assert metrics["n_test_normal"] == metrics["n_test_abnormal"] == 4
    assert metrics["n_train"] + metrics["n_calibration"] == 10
    assert metrics["image_size"] == "32x32"
    assert 0 <= metrics["pixel_auroc"] <= 1
    assert run[0].report.is_file()


def test_all_ways_to_a_score_agree(run: tuple[RunFolder, dict[str, Any]], photographs: Path, tmp_path: Path) -> None:
    all_ways_agree(*run, photographs, tmp_path)


def test_all_ways_agree_where_places_are_compared(
    aligned: tuple[RunFolder, dict[str, Any], Path], tmp_path: Path
) -> None:
    folder, metrics, root = aligned
    assert not any(name.startswith("part_") for name in metrics)  # the score is that of the map
    assert load_model(folder.last_checkpoint)[0].part_names == ("place",)
    all_ways_agree(folder, metrics, root, tmp_path)


@pytest.mark.parametrize("seen", ["data.tile=64", "data.image_size=128"])
def test_all_ways_agree_where_boards_are_laid_out(seen: str, tmp_path: Path) -> None:
    """In tiles and resized: that they show the same is found out, and their grey levels are compared, too."""
    root = tiny.write_photographs(tmp_path / "boards", train=20, shapes=[(140, 150)], board=True)
    given = [seen if option == "data.tile=32" else option for option in OPTIONS if option != "figures=true"]
    folder = RunFolder(tmp_path / "run")
    metrics = train(tiny.config(f"data.root={root}", *given, "data.aligned=auto"), folder.path)
    model, _ = load_model(folder.last_checkpoint)
    assert model.part_names == ("place",)
    assert model.places.kept.grey.size
    assert metrics["image_auroc"] == 1
    all_ways_agree(folder, metrics, root, tmp_path)
    if seen == "data.image_size=128":
        program = {"format": "exported_program", "output": tmp_path / "x.pt2"}
        written = export(
            config("export", checkpoint=folder.last_checkpoint, **program)
        )  # checked against the checkpoint
        assert "not compared place by place" in written.use


def test_all_ways_agree_on_several_looks(
    looks: tuple[RunFolder, dict[str, Any]], photographs: Path, tmp_path: Path
) -> None:
    folder, metrics = looks
    model, _ = load_model(folder.last_checkpoint)
    names = model.objective.part_names
    assert model.part_names == (*names, *(f"{name}_x2" for name in names))
    assert {f"part_{name}_auroc" for name in model.part_names} <= metrics.keys()
    all_ways_agree(folder, metrics, photographs, tmp_path)
    detector = Detector.load(folder.last_checkpoint)
    assert detector.preprocessing.size == (64, 64)
    seen = detector.preprocessing.read(photographs / "test/hole/14.png")[None]
    assert detector.score_batch(np.concatenate([seen, seen]))[1].shape == (2, 64, 64)  # at the size of the finest look


def test_the_use_of_an_exported_program_says_what_its_graph_takes(
    run: tuple[RunFolder, Any], looks: tuple[RunFolder, Any], tmp_path: Path
) -> None:
    """And it is checked against the checkpoint before it is written."""
    for (folder, _), takes in ((run, "images, highest"), (looks, "images, highest, look")):
        asked = config(
            "export", checkpoint=folder.last_checkpoint, format="exported_program", output=tmp_path / "x.pt2"
        )
        assert f".module()({takes})  #" in export(asked).use


def test_looks_are_the_checkpoints(looks: tuple[RunFolder, Any], tmp_path: Path) -> None:
    asked = config("evaluate", checkpoint=looks[0].last_checkpoint, data={"scales": [1, 4]}, figures=False)
    with pytest.raises(UserError, match=r"data.scales=\[1, 4\]: the checkpoint was trained with \[1, 2\]"):
        evaluate(asked, tmp_path)


@pytest.mark.parametrize(("given", "expected"), [("data.tile=32", True), ("data.scales=[1,2]", False)])
def test_places_are_found_out_unless_one_looks_several_times(given: str, expected: bool, tmp_path: Path) -> None:
    board = np.kron(np.random.default_rng(0).integers(0, 255, (16, 16)), np.ones((8, 8))).astype(np.uint8)
    for number in range(14):
        path = tmp_path / f"train/good/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        board[0, 0] = number  # none is a copy
        Image.fromarray(board).save(path)
    data = build_data(tiny.config(f"data.root={tmp_path}", "data.image_size=32", given)["data"])
    data.setup()
    assert data.aligned is expected


def test_both_looks_are_worth_the_same(looks: tuple[RunFolder, dict[str, Any]]) -> None:
    """Each part has a scale of its own in each look, and the weight of the method."""
    scale = load_model(looks[0].last_checkpoint)[0].standardiser
    first, second = scale.weights.chunk(2)
    assert first.tolist() == second.tolist()
    assert (scale.mean != 0).all()
    first, second = scale.mean.chunk(2)
    assert (first != second).any()


def all_ways_agree(folder: RunFolder, metrics: dict[str, Any], photographs: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    trained = {row.path: row.score for row in read_scores(folder.scores)}
    found = evaluate(config("evaluate", checkpoint=folder.last_checkpoint, figures=False), tmp_path / "evaluate")
    for name in ("image_auroc", "pixel_auroc", "pixel_ap", "pixel_aupro", "threshold"):
        assert found[name] == pytest.approx(metrics[name], abs=1e-5), name
    export(config("export", checkpoint=folder.last_checkpoint, output=tmp_path / "x.onnx"))
    for name, file in (("predict", folder.last_checkpoint), ("predict_onnx", tmp_path / "x.onnx")):
        asked = config("predict", checkpoint=file, input=photographs / "test", recursive=True, overlays="all")
        predict(asked, tmp_path / name)
    ways = {
        "evaluate": {row.path: row.score for row in read_scores(tmp_path / "evaluate/scores.csv")},
        "predict": predicted(tmp_path / "predict"),
        "predict_onnx": predicted(tmp_path / "predict_onnx"),
    }
    for name, scores in ways.items():
        tolerance = 1e-3 if name == "predict_onnx" else 1e-4
        assert scores == pytest.approx(trained, rel=tolerance, abs=tolerance), name


def test_a_map_has_the_photographs_own_size_whatever_is_given(run: tuple[RunFolder, Any], photographs: Path) -> None:
    detector, path = Detector.load(run[0].last_checkpoint), photographs / "test/hole/15.png"
    of_path = detector.predict(path)
    pixels = np.asarray(Image.open(path))
    mapped = np.memmap(photographs / "pixels", pixels.dtype, "w+", shape=pixels.shape)
    mapped[:] = pixels
    for given in (pixels, mapped):
        found = detector.predict(given)
        assert found.score == of_path.score
        assert found.anomaly_map.shape == pixels.shape == tiny.SHAPES[15 % 4]
        np.testing.assert_array_equal(found.anomaly_map, of_path.anomaly_map)
    several = detector.predict([path, photographs / "test/hole/14.png"])  # of two sizes
    assert [one.anomaly_map.shape for one in several] == [tiny.SHAPES[15 % 4], tiny.SHAPES[14 % 4]]
    assert several[0].score == of_path.score


def test_pictures_are_kept_for_the_next_evaluation(run: tuple[RunFolder, Any], tmp_path: Path) -> None:
    """Of photographs that differ in size."""
    for name in ("first", "again"):
        evaluate(config("evaluate", checkpoint=run[0].last_checkpoint, figures=True), tmp_path / name)
    pictures = [(tmp_path / name / "figures/worst_mistakes.png").read_bytes() for name in ("first", "again")]
    assert pictures[0] == pictures[1]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("data.aligned=true", "data.aligned=true: 4 sizes of training photographs"),
        ("data.aligned=7", "data.aligned=7: give auto, true or false"),
        ("data.tile=48", "data.tile=48: the model needs a multiple of 32; use data.tile=32 or data.tile=64"),
        ("data.tile_overlap=1", "data.tile_overlap=1: use a share"),
        ("data.scale=2", "data.scale=2: use a number above 0, at most 1"),
        ("data.tile=big", "data.tile=big: use the side of a tile"),
        ("data.scales=[1,2]", r"data.scales=\[1, 2\]: sees photographs resized .*: give one of the two"),
        ("data.tile=null data.scales=[2,1]", r"data.scales=\[2, 1\]: use rising whole numbers"),
        ("data.tile=null data.scales=[2,3]", r"data.scales=\[2, 3\]: use rising whole numbers"),
        ("data.tile=null data.scales=2", "data.scales=2: use rising whole numbers"),
        ("data.tile=null data.scales=[1,2] data.image_size=[32,64]", "looks through square tiles; give"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(given: str, said: str, photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        train(tiny.config(f"data.root={photographs}", *OPTIONS, *given.split()), tmp_path)


def test_a_scale_shrinks_photographs_before_they_are_cut(photographs: Path, tmp_path: Path) -> None:
    train(tiny.config(f"data.root={photographs}", *OPTIONS, "data.scale=0.5", "figures=false"), tmp_path)
    detector = Detector.load(tmp_path / "checkpoints/last.ckpt")
    found = detector.predict(photographs / "test/hole/14.png")
    height, width = tiny.SHAPES[14 % 4]
    assert found.anomaly_map.shape == (height, width)


QUICK = {"adgan", "control_darkness", "control_pca", "feature_attention_network", "ganomaly"}


@pytest.mark.parametrize("model", [pytest.param(m, marks=() if m in QUICK else pytest.mark.slow) for m in tiny.MODELS])
def test_every_method_trains_evaluates_and_predicts_in_tiles(model: str, photographs: Path, tmp_path: Path) -> None:
    given = [f"data.root={photographs}", f"model={model}", *OPTIONS[1:], "figures=false", "controls=false"]
    trained = train(tiny.config(*given, "logger=none"), tmp_path / "run")
    checkpoint = RunFolder(tmp_path / "run").last_checkpoint
    found = evaluate(config("evaluate", checkpoint=checkpoint, figures=False), tmp_path / "evaluate")
    for name in ("image_auroc", "pixel_auroc", "threshold"):
        assert found[name] == pytest.approx(trained[name], abs=1e-5), name
    asked = config("predict", checkpoint=checkpoint, input=photographs / "test", recursive=True, overlays="none")
    predict(asked, tmp_path / "predict")
    rows = {row.path: row.score for row in read_scores(RunFolder(tmp_path / "run").scores)}
    assert predicted(tmp_path / "predict") == pytest.approx(rows, rel=1e-4, abs=1e-4)
