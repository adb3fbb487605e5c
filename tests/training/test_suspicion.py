"""Is the training set clean: what stands out is named and never removed silently; `data.contamination` learns without it."""

import csv
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomap.commands.train import train
from anomap.config import build
from anomap.data.anomaly_data import AnomalyData
from anomap.data.build import build_data
from anomap.data.imageset import to_float
from anomap.errors import UserError
from anomap.runs.folder import RunFolder
from anomap.training import suspicion
from anomap.training.clean import CleanBatches
from anomap.training.suspicion import check_training, trim
from tests import tiny
from tests.finished import Runs

MODEL = "model=control_mean"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 normal images; in two for training and one for calibration there is a hole."""
    root = tiny.write_folder(tmp_path_factory.mktemp("holes") / "data", train=60)
    data = module(root)
    for sample in (*data.train.samples[:2], data.calibration.samples[0]):
        assert sample.path is not None
        pixels = np.array(Image.open(sample.path))
        pixels[8:16, 8:16] = np.random.default_rng(0).integers(0, 256, (8, 8))
        Image.fromarray(pixels).save(sample.path)
    return root


def module(root: Path, *overrides: str) -> AnomalyData:
    data = build_data(tiny.config(MODEL, f"data.root={root}", *overrides)["data"])
    data.setup()
    return data


def holes(data: AnomalyData) -> set[str]:
    return {sample.name for sample in (*data.train.samples[:2], data.calibration.samples[0])}


def test_planted_defects_are_named_in_training_and_calibration(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = module(root)
    check = check_training(tiny.objective(MODEL.removeprefix("model=")), data, CPU)
    assert {row.path for row in check.suspicious} == holes(data)
    assert [row.path for row in check.rows[:3]] == [row.path for row in check.suspicious]
    assert {row.role for row in check.suspicious} == {"train", "calibration"}
    assert len(check.rows) == check.of == 60
    (warning,) = (record for record in caplog.records if "look unlike" in record.message)
    assert warning.levelno == logging.WARNING
    assert "3 of 60 training images look unlike the others" in warning.message
    assert len(data.train) + len(data.calibration) == 60  # nothing was removed


def test_a_clean_set_is_called_clean(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = module(tiny.write_folder(tmp_path / "data", train=60))
    with caplog.at_level(logging.INFO):
        assert check_training(tiny.objective("control_mean"), data, CPU).suspicious == []
    assert "no training image stands out" in caplog.text


def test_few_images_are_called_too_few(data: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    few = module(tiny.write_folder(tmp_path / "data", train=8))
    with caplog.at_level(logging.INFO):
        assert check_training(tiny.objective("control_mean"), few, CPU).suspicious == []
    assert "too few to say" in caplog.text


def test_contamination_leaves_the_most_unlike_out_of_all_that_is_learned(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = module(root, "data.contamination=0.03")
    count, bad = len(data.train), holes(data) - {data.calibration.samples[0].name}
    before = data.train.images.copy()
    check = trim(tiny.objective("control_mean"), data, CPU)
    assert {sample.name for sample in data.left_out.samples} == bad
    assert {row.path for row in check.rows if row.role == "trimmed"} == bad
    assert len(data.train) == count - 2
    assert np.array_equal(data.train.images, before[2:])
    assert np.array_equal(data.left_out.images, before[:2])
    assert torch.cat([*CleanBatches(data)]).shape[0] == count - 2
    assert "2 of 5" in caplog.text
    assert "are not learned from" in caplog.text


def test_contamination_looks_at_every_image(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a check that only names would look at some."""
    monkeypatch.setattr(suspicion, "AT_MOST", 10)
    data = module(root, "data.contamination=0.03")
    bad = holes(data) - {data.calibration.samples[0].name}
    trim(tiny.objective("control_mean"), data, CPU)
    assert {sample.name for sample in data.left_out.samples} == bad


def test_after_trimming_images_in_a_mapped_file_are_still_pasted(root: Path) -> None:
    config = tiny.config(MODEL, f"data.root={root}", "data.cache_mb=0", "augmentation.only_fills=[paste_image]")
    data = build_data(config["data"], build(config["augmentation"]))
    data.setup()
    data.leave_out([1, 4])
    assert data.augmentation is not None
    index = np.arange(4)
    images = to_float(data.train[index]["image"])
    changed, mask = data.augmentation(images, torch.from_numpy(index), 0, data.clean.images)
    assert mask.sum() > 0
    assert (changed != images).any()


def test_what_is_mapped_from_a_file_stays_there(root: Path) -> None:
    data = module(root, "data.cache_mb=0")
    images = np.array(data.train.images)
    data.leave_out([1, 4])
    kept = np.setdiff1d(np.arange(len(images)), [1, 4])
    assert not isinstance(data.train.images, np.ndarray)
    assert np.array_equal(data.train[np.arange(len(kept))]["image"].numpy(), images[kept])


@pytest.mark.parametrize("wrong", ["0.5", "-0.1", "many"])
def test_an_impossible_share_is_one_line(root: Path, wrong: str) -> None:
    with pytest.raises(UserError, match=r"data\.contamination="):
        module(root, f"data.contamination={wrong}")


@pytest.mark.thorough
def test_a_run_names_them_in_its_files(root: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    metrics = train(tiny.config(MODEL, f"data.root={root}", "figures=true", "controls=false"), run.path)
    assert metrics["n_suspicious"] == 3
    assert f"data.exclude={run.suspicious}" in metrics["training_note"]
    with run.suspicious.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 60
    assert [float(row["score"]) for row in rows] == sorted((float(row["score"]) for row in rows), reverse=True)
    named = [row["path"] for row in rows if row["verdict"] == "suspicious"]
    page = run.report.read_text()
    assert "Is the training set clean?" in page
    assert all(path in page for path in named)
    again = train(tiny.config(MODEL, f"data.root={root}", f"data.exclude={run.suspicious}"), tmp_path / "again")
    assert again["n_suspicious"] == 0
    assert again["n_train"] + again["n_calibration"] == 57


@pytest.mark.thorough
def test_contamination_ranks_planted_defects_higher(root: Path, tmp_path: Path) -> None:
    """Like defects remain in the test set: of two learned from, a nearest neighbour finds them normal."""
    place = shutil.copytree(root, tmp_path / "data")
    data = module(place)
    for number, sample in enumerate(data.train.samples[:2]):
        pixels = np.array(Image.open(place / sample.name))
        pixels[0, 0] += 1  # not the same file
        Image.fromarray(pixels).save(place / f"test/hole/again{number}.png")
        mask = np.zeros_like(pixels)
        mask[8:16, 8:16] = 255
        Image.fromarray(mask).save(place / f"ground_truth/hole/again{number}_mask.png")
    areas = [
        train(
            tiny.config("model=control_nearest_neighbour", f"data.root={place}", f"data.contamination={share}"),
            tmp_path / str(share),
        )["image_auroc"]
        for share in (0, 0.03)
    ]
    assert areas[1] > areas[0]


def test_without_contamination_the_check_changes_nothing(runs: Runs) -> None:
    """Same scores to the last bit, whether training images are looked at or not."""
    with_check, without = runs("model=ganomaly"), runs("model=ganomaly", "data.check_training=false")
    assert with_check.folder.scores.read_text() == without.folder.scores.read_text()
    assert with_check.folder.suspicious.is_file()
    assert not without.folder.suspicious.exists()
    assert "n_suspicious" not in without.metrics
