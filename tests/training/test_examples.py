"""Which images TensorBoard shows, and what of them."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anomap.data.imageset import ImageSet
from anomap.data.samples import Sample
from anomap.detection.scoring import ScoringModel
from anomap.objectives.base import MethodOutput
from anomap.runs.scores import ScoreRow
from anomap.training import examples
from anomap.training.examples import Examples
from anomap.viewing.pixels import Pixels

DEFECTS = ["good", "crack", "hole", "good", "crack", "good", "good", "good"]
SCORES = np.array([0.0, 9.0, 5.0, 2.0, 1.0, 3.0, 7.0, 4.0])
LABELS = np.array([defect != "good" for defect in DEFECTS]).astype(int)


def image_set(defects: list[str], folder: str) -> ImageSet:
    """Image i is grey 10 i."""
    pixels = np.arange(len(defects), dtype=np.uint8)[:, None, None, None] * np.full((1, 1, 8, 8), 10, np.uint8)
    samples = [Sample(f"{folder}/{i}.png", int(d != "good"), d) for i, d in enumerate(defects)]
    return ImageSet(pixels, samples)


def blackened(images: Tensor, index: Tensor, epoch: int, donors: Any) -> tuple[Tensor, Tensor]:
    """An augmentation; not even the index of the epoch may change what is shown."""
    assert epoch == 0
    mask = torch.zeros_like(images)
    mask[:, :, :4] = 1
    return images * (1 - mask), mask


class Grey(torch.nn.Module):
    """Scores an image by its grey, and knows its map."""

    part_names = ("grey",)

    def score(self, images: Tensor) -> MethodOutput:
        return MethodOutput({"grey": images.mean((1, 2, 3)) * 255}, images[:, :1], reconstruction=images)


class Writer:
    """Keeps the tags."""

    def __init__(self) -> None:
        self.images: dict[str, tuple[Any, int]] = {}

    def add_image(self, tag: str, image: Any, step: int, dataformats: str) -> None:
        assert dataformats == "HWC"
        self.images[tag] = image, step


@pytest.fixture
def data() -> Any:
    train = image_set(["good"] * 9, "train")
    return SimpleNamespace(test=image_set(DEFECTS, "test"), train=train, clean=train, tiling=None, augmentation=None)


def detector(threshold: float) -> ScoringModel:
    model = ScoringModel(Grey(), (8, 8))  # pyright: ignore[reportArgumentType]
    model.calibration.threshold.fill_(threshold)
    model.calibration.pixel_threshold.fill_(0.1)
    return model


def drawn(
    data: Any, monkeypatch: pytest.MonkeyPatch, threshold: float = 25
) -> dict[str, tuple[ScoreRow, dict[str, Pixels]]]:
    """The strips written for the images chosen at threshold 3.4: by tag."""
    strips: list[tuple[ScoreRow, dict[str, Pixels]]] = []
    monkeypatch.setattr(examples, "strip", lambda *given: strips.append(given))
    shown, writer = Examples(data), Writer()
    shown.choose(np.arange(len(DEFECTS)), SCORES, LABELS, 3.4)
    shown.log(writer, 30, detector(threshold), torch.device("cpu"))
    assert {step for _, step in writer.images.values()} == {30}
    return dict(zip(writer.images, strips, strict=True))


def test_one_of_each_defect_and_the_normals_nearest_the_threshold(data: Any) -> None:
    shown = Examples(data)
    for order in (np.arange(8), np.array([7, 3, 5, 1, 0, 2, 4, 6])):  # whatever the batches and processes
        shown.chosen = None
        shown.choose(order, SCORES[order], LABELS[order], 3.4)
        assert shown.chosen == [1, 2, 5, 7, 3]


def test_they_stay_the_same_when_scores_change(data: Any) -> None:
    shown = Examples(data)
    shown.choose(np.arange(8), SCORES, LABELS, 3.4)
    shown.choose(np.arange(8), -SCORES, LABELS, 0.0)
    assert shown.chosen == [1, 2, 5, 7, 3]


def test_test_images_are_decided_at_the_detectors_threshold(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    strips = drawn(data, monkeypatch)
    rows = {tag: row for tag, (row, _) in strips.items() if tag.startswith("test images/")}
    assert {tag: (row.score, row.prediction, row.label) for tag, row in rows.items()} == {
        "test images/test/1.png": (pytest.approx(10), "normal", "abnormal"),
        "test images/test/2.png": (pytest.approx(20), "normal", "abnormal"),
        "test images/test/5.png": (pytest.approx(50), "abnormal", "normal"),
        "test images/test/7.png": (pytest.approx(70), "abnormal", "normal"),
        "test images/test/3.png": (pytest.approx(30), "abnormal", "normal"),
    }
    _, tiles = strips["test images/test/5.png"]
    assert list(tiles) == ["image", "anomaly map", "restored", "overlay"]  # a residual is no attention map
    assert (tiles["image"] == 50).all()


def test_training_images_come_with_their_hard_augmented_copy(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data.augmentation = blackened
    strips = {tag: found for tag, found in drawn(data, monkeypatch).items() if tag.startswith("training images/")}
    assert list(strips) == [f"training images/train/{i}.png" for i in (0, 3, 6)]
    row, tiles = strips["training images/train/6.png"]
    assert list(tiles) == ["image", "hard-augmented", "mask", "anomaly map", "restored", "overlay"]
    assert (tiles["image"] == 60).all()
    assert (tiles["hard-augmented"][:4] == 0).all()
    assert (tiles["hard-augmented"][4:] == 60).all()
    assert (row.score, row.label) == (pytest.approx(30), "abnormal")
    assert tiles["mask"][0, 0].sum() != tiles["mask"][7, 0].sum()


def test_a_method_that_needs_no_copy_shows_the_image_alone(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    strips = drawn(data, monkeypatch)
    row, tiles = strips["training images/train/6.png"]
    assert list(tiles) == ["image", "anomaly map", "restored", "overlay"]
    assert row.label == "normal"


def test_without_a_test_set_there_are_training_images(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data.test = image_set([], "test")
    monkeypatch.setattr(examples, "strip", lambda *_: None)
    shown, writer = Examples(data), Writer()
    shown.choose(np.array([], int), np.array([]), np.array([], int), 3.4)
    shown.log(writer, 1, detector(1.0), torch.device("cpu"))
    assert [tag.partition("/")[0] for tag in writer.images] == ["training images"] * 3


def test_names_that_are_no_utf8_are_shown(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data.test.samples[1] = Sample("test/\udcff.png", 1, "crack")
    assert "test images/test/?.png" in drawn(data, monkeypatch)
