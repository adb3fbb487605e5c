"""Tiles with every layout and option of `data`."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from anomap import Detector
from anomap.commands.evaluate import evaluate
from anomap.commands.preview import preview
from anomap.commands.train import train
from anomap.config import config_dir, plain
from anomap.data.build import build_data
from anomap.data.layouts.fashion_mnist import DEBIAN_ROOT
from anomap.errors import UserError
from anomap.runs.folder import RunFolder
from tests import tiny
from tests.commands.test_agreement import config
from tests.tables import read_scores

pytestmark = pytest.mark.thorough

TILED = ("data.tile=32", "data.calibration_fraction=0.4")
QUICK = ("model=control_mean", "controls=false", "figures=false", "logger=none")


def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return plain(compose("train", [*QUICK, "trainer.accelerator=cpu", *overrides]))


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    return tiny.write_photographs(tmp_path / "photographs")


def folder(root: Path, *more: str) -> dict[str, Any]:
    return composed("data=folder", f"data.root={root}", "data.channels=1", *TILED, *more)


def test_preview_shows_augmented_tiles(photographs: Path, tmp_path: Path) -> None:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        asked = ["data=folder", f"data.root={photographs}", "data.tile=32", "data.channels=1", "count=3"]
        picture = preview(plain(compose("preview", asked)), tmp_path)
    assert np.asarray(Image.open(picture)).std() > 0


def test_a_limit_is_of_photographs(photographs: Path, tmp_path: Path) -> None:
    metrics = train(folder(photographs, "data.limit=3"), tmp_path / "run")
    assert metrics["n_train"] == metrics["n_calibration"] == 3
    assert metrics["n_test_normal"] + metrics["n_test_abnormal"] == 3


def test_what_is_monitored_is_counted_in_tiles_but_a_few_photographs_always(photographs: Path) -> None:
    def watched(images: int) -> int:
        data = build_data({**folder(photographs)["data"], "monitor_images": images}, stride=32)
        data.setup()
        return len(data.monitored_dataloaders()[1])

    assert (watched(1), watched(400)) == (6, 8)


def test_an_unreadable_photograph_is_left_out(photographs: Path, tmp_path: Path) -> None:
    for kind in ("train", "test"):
        (photographs / kind / "good/broken.png").write_bytes(b"junk")
    with pytest.raises(UserError, match=r"broken\.png"):
        train(folder(photographs), tmp_path / "run")
    metrics = train(folder(photographs, "data.on_error=skip"), tmp_path / "run")
    assert metrics["n_train"] + metrics["n_calibration"] == 10
    assert metrics["n_test_normal"] + metrics["n_test_abnormal"] == 8


def test_mvtec(photographs: Path, tmp_path: Path) -> None:
    shutil.move(photographs, tmp_path / "sets/screw")
    asked = ("data=mvtec", f"data.root={tmp_path / 'sets'}", "data.category=screw", "data.channels=1")
    assert train(composed(*asked, *TILED), tmp_path / "run")["pixel_auroc"] is not None


@pytest.mark.skipif(not Path(DEBIAN_ROOT).is_dir(), reason="needs dataset-fashion-mnist")
def test_images_without_files_smaller_than_a_tile(tmp_path: Path) -> None:
    metrics = train(composed("data=fashion_mnist", "data.tile=32", "data.limit=20"), tmp_path / "run")
    assert metrics["n_test_normal"] + metrics["n_test_abnormal"] == 20
    assert Detector.load(metrics["checkpoint"]).predict(np.zeros((28, 28), np.uint8)).anomaly_map.shape == (28, 28)


def test_solar_cells(tmp_path: Path) -> None:
    pytest.importorskip("elpv_dataset")
    metrics = train(composed("data=elpv", "data.tile=128", "data.limit=6"), tmp_path / "run")
    assert metrics["image_size"] == "128x128"
    assert metrics["n_train"] == 6


def test_a_tile_larger_than_all_photographs(photographs: Path, tmp_path: Path) -> None:
    metrics = train(folder(photographs, "data.tile=128"), tmp_path / "run")
    assert 0 <= metrics["pixel_auroc"] <= 1
    found = Detector.load(metrics["checkpoint"]).predict(photographs / "test/hole/15.png")
    assert found.anomaly_map.shape == tiny.SHAPES[15 % 4]


def test_folders_of_other_photographs_and_other_thresholds(photographs: Path, tmp_path: Path) -> None:
    metrics = train(folder(photographs), tmp_path / "run")
    checkpoint, test = RunFolder(tmp_path / "run").last_checkpoint, photographs / "test"
    asked = config("evaluate", checkpoint=checkpoint, figures=False)
    again = {**asked, "threshold": {"strategy": "quantile", "quantile": 0.5}}
    first, second = (evaluate(c, tmp_path / name) for name, c in (("first", asked), ("second", again)))
    assert len(list(checkpoint.parent.glob("scores-*.npz"))) == 1  # scored once
    assert second["threshold"] < first["threshold"]
    assert second["image_auroc"] == first["image_auroc"] == metrics["image_auroc"]
    asked["data"] = {"normal_dir": str(test / "good"), "abnormal_dir": str(test / "hole")}
    evaluate(asked, tmp_path / "dirs")
    names = ("first", "dirs")
    one, other = ({Path(r.path).name: r.score for r in read_scores(tmp_path / n / "scores.csv")} for n in names)
    assert one == pytest.approx(other)
    with pytest.raises(UserError, match=r"data\.tile=64: the checkpoint was trained with 32"):
        evaluate({**asked, "data": {"tile": 64}}, tmp_path / "wrong")


def test_networks_are_made_for_the_tile_and_not_for_the_image_size(photographs: Path, tmp_path: Path) -> None:
    asked = ["model=attention_network", f"data.root={photographs}", *TILED[1:], "data.tile=64", "controls=false"]
    metrics = train(tiny.config(*asked), tmp_path / "run")
    assert metrics["image_size"] == "64x64"
    found = Detector.load(metrics["checkpoint"]).predict(photographs / "test/hole/15.png")
    assert found.anomaly_map.shape == tiny.SHAPES[15 % 4]
