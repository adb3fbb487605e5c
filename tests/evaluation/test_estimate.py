"""The estimate of what would be caught: counted rightly, from the right images, and called what it is."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from anomap.commands.train import train
from anomap.data.tiles import Tiling
from anomap.detection.scoring import ScoringModel
from anomap.errors import UserError
from anomap.evaluation.estimate import Damaged, Estimate, _piece, wanted
from anomap.runs.folder import RunFolder, read_metrics
from tests import tiny

RUN = ("model=control_nearest_neighbour", "controls=false", "figures=true", "data.image_size=64")


def run_of(folder: Path, *overrides: str, test: bool = False) -> tuple[RunFolder, dict[str, Any]]:
    """A finished run on the tiny data set, by default without its test set, images straight in the folder."""
    root = tiny.write_folder(folder / "data", train=40, size=64)
    if not test:
        root = root / "train/0.normal"
    run = RunFolder(folder / "run")
    train(tiny.config(f"data.root={root}", *RUN, *overrides), run.path)
    return run, read_metrics(run.metrics)


def lines(run: RunFolder) -> list[dict[str, str]]:
    with run.estimate.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, dict[str, Any]]:
    return run_of(tmp_path_factory.mktemp("alone"))


def test_the_metrics_are_those_of_the_table(made: tuple[RunFolder, dict[str, Any]]) -> None:
    run, metrics = made
    found = lines(run)
    caught = np.array([float(line["score"]) > metrics["threshold"] for line in found])
    assert len(found) == metrics["n_estimate"] <= 200
    assert [line["decision"] == "caught" for line in found] == caught.tolist()
    assert metrics["estimate_tpr"] == pytest.approx(caught.mean())
    assert 0 < metrics["estimate_tpr"] < 1
    spots = np.array([line["kind"] == "spot" for line in found])
    assert metrics["estimate_spot_tpr"] == pytest.approx(caught[spots].mean())
    large = np.array([line["size"] == "0.16" for line in found])
    assert metrics["estimate_size_16_tpr"] == pytest.approx(caught[large].mean())
    assert {line["pixels"] for line, of_size in zip(found, large, strict=True) if of_size} == {"10"}
    assert metrics["estimate_size_16_px"] == 10
    assert all(float(line["change"]) > 0.01 for line in found)
    assert "an estimate, not a test" in metrics["estimate_note"]
    assert (metrics["image_auroc"], metrics["test_tpr"]) == (None, None)
    assert run.scores.read_text().count("\n") == 1  # damaged copies are no test images


def test_copies_are_of_calibration_images_that_pass_and_not_of_the_one_that_is_the_threshold(
    made: tuple[RunFolder, dict[str, Any]],
) -> None:
    from anomap.data.build import build_data
    from anomap.detection.checkpoint import load_model

    run, metrics = made
    detector, config = load_model(run.last_checkpoint)
    data = build_data(config["data"])
    data.setup()
    scores = dict(zip((s.name for s in data.calibration.samples), detector.calibration.scores.tolist(), strict=True))
    passing = {name for name, score in scores.items() if score < metrics["threshold"]}
    assert metrics["threshold"] in {*scores.values()}
    assert {line["image"] for line in lines(run)} == passing != {*scores}


def test_the_same_again(made: tuple[RunFolder, dict[str, Any]], tmp_path: Path) -> None:
    again, metrics = run_of(tmp_path, "figures=false")
    kept = [key for key in metrics if key.startswith("estimate_") and key != "estimate_seconds"]
    assert {key: metrics[key] for key in kept} == {key: made[1][key] for key in kept}
    assert lines(again) == lines(made[0])


def test_the_report_shows_it_and_calls_it_an_estimate(made: tuple[RunFolder, dict[str, Any]]) -> None:
    run, _ = made
    page = run.report.read_text()
    for text in (
        "There is no test set",
        "an estimate, not a test",
        "spot, faint",
        'id="distribution"',
        'value="undamaged"',
    ):
        assert text in page
    assert "test images:" not in page
    assert '"upper":{}' in page  # copies of few images have no intervals
    assert {path.name for path in run.figures.iterdir()} == {"estimate.png", "score_distribution.png"}


def test_without_it_the_report_shows_the_normal_scores(tmp_path: Path) -> None:
    run, metrics = run_of(tmp_path, "estimate=false")
    assert not [key for key in metrics if key.startswith("estimate_")]
    assert not run.estimate.exists()
    page = run.report.read_text()
    assert 'id="distribution"' in page
    assert 'id="estimate"' not in page
    assert {path.name for path in run.figures.iterdir()} == {"score_distribution.png"}


@pytest.mark.thorough
def test_beside_a_test_set_only_when_asked_for(tmp_path: Path) -> None:
    run, metrics = run_of(tmp_path / "auto", test=True)
    assert not [key for key in metrics if key.startswith("estimate_")]
    asked, with_it = run_of(tmp_path / "true", "estimate=true", test=True)
    assert {key: with_it[key] for key in ("image_auroc", "test_tpr")} == {
        k: metrics[k] for k in ("image_auroc", "test_tpr")
    }
    assert with_it["estimate_tpr"] is not None
    assert "7 test images" in asked.report.read_text()
    assert {"estimate.png", "roc.png"} <= {path.name for path in asked.figures.iterdir()}
    assert asked.scores.read_text() == run.scores.read_text()


def test_kinds_that_training_was_given_are_left_out(tmp_path: Path) -> None:
    own = "{_target_: anomap.augmentation.damages.Warp}"
    _, metrics = run_of(tmp_path, f"+augmentation.fills.dent={own}", "figures=false")
    assert "estimate_spot_tpr" in metrics
    assert "estimate_warp_tpr" not in metrics


def test_a_tiled_photograph_is_damaged_in_one_piece_and_scored_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[tuple[np.ndarray, float]] = []
    score = ScoringModel.score

    def watched(model: ScoringModel, images: torch.Tensor, *args: Any) -> Any:
        found = score(model, images, *args)
        scored.append((images[0, 0].numpy(), float(found[0])))
        return found

    monkeypatch.setattr(ScoringModel, "score", watched)
    root = tiny.write_photographs(tmp_path / "data", train=20, shapes=[(96, 130), (40, 70)]) / "train/good"
    run = RunFolder(tmp_path / "run")
    options = ("model=control_mean", "controls=false", "data.tile=64", "data.calibration_fraction=0.4")
    train(tiny.config(f"data.root={root}", *options), run.path)
    found = lines(run)
    assert read_metrics(run.metrics)["n_estimate"] == len(found)
    assert 10 < len(found) <= 40
    assert {line["size"]: line["pixels"] for line in found}["0.16"] == "10"  # of 64, the tile's side
    originals = [np.array(Image.open(path)) for path in root.iterdir()]
    copies = {value: image for image, value in scored if not any(np.array_equal(image, one) for one in originals)}
    assert {float(line["score"]) for line in found} <= {*copies}
    for copy in copies.values():
        changed = min((np.argwhere(copy != one) for one in originals if one.shape == copy.shape), key=len)
        assert (np.ptp(changed, axis=0) < 64).all()


def test_of_several_looks_the_whole_image_is_damaged() -> None:
    for tiling, side in ((Tiling(32), 32), (Tiling(32, 0.25, (1, 2)), 64), (None, 64)):
        rows, columns = _piece((4, 1, 64, 64), tiling, [0, 3])[2:]
        assert rows.stop - rows.start == columns.stop - columns.start == side


@pytest.mark.parametrize(
    ("value", "n_abnormal", "expected"),
    [("auto", 0, True), ("auto", 3, False), (True, 3, True), (False, 0, False)],
)
def test_when_it_is_made(value: Any, n_abnormal: int, expected: bool) -> None:
    assert wanted(value, n_abnormal) is expected


def test_a_wrong_value_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"estimate=maybe: give auto, true or false"):
        train(tiny.config("data.root=nowhere", "estimate=maybe"), tmp_path)


def test_the_boundary_is_the_largest_missed_and_the_smallest_caught() -> None:
    sizes, scores = (0.02, 0.04, 0.08, 0.16), (0.1, 0.9, 0.2, 0.8)
    copies = [Damaged("a.png", "spot", "clear", size, 1, 0.1, score) for size, score in zip(sizes, scores, strict=True)]
    found = Estimate(["a.png", "b.png"], np.array([0.1, 0.5]), copies, pictures=dict.fromkeys(range(6)))  # pyright: ignore
    assert found.boundary(0.5) == [4, 3]
    assert found.metrics(0.5)["estimate_auroc"] == pytest.approx((0.5 + 2 + 1 + 2) / 8)
    assert [row.label for row in found.rows(0.5)] == ["normal"] * 2 + ["abnormal"] * 4


def test_nothing_damaged_is_nothing_said() -> None:
    found = Estimate(["a.png"], np.array([0.1]))
    assert (found.metrics(0.5), found.table(0.5), found.boundary(0.5)) == ({}, None, [])
