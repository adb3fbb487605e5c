"""The pass over clean images that closed-form statistics and feature caches rely on."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from anomap.data.build import build_data
from anomap.detection.scoring import ScoringModel
from anomap.errors import UserError
from anomap.evaluation.measure import batches
from anomap.objectives.base import MethodOutput, Objective
from anomap.training.clean import CleanBatches
from anomap.training.train import learn_statistics
from tests import tiny


def test_CleanBatches_are_all_training_images_in_stored_order(tmp_path: Path) -> None:
    """Image i of the pass is image i of the training set: what a batch's `index` points to."""
    root = tiny.write_folder(tmp_path / "data")
    data = build_data(tiny.config("model=control_mean", f"data.root={root}")["data"])
    data.setup()
    images = torch.cat(list(CleanBatches(data)))
    assert images.dtype == torch.float32
    assert np.array_equal((images * 255).round().to(torch.uint8).numpy(), data.train.images)


class Told(Objective):
    """Remembers where the images were that it learned from; its statistics come from elsewhere, as scikit-learn's do."""

    def learn_statistics(self, batches: Iterable[Tensor]) -> None:
        self.devices = {images.device.type for images in batches}
        self.register_buffer("mean", torch.zeros(1))

    def score(self, images: Tensor) -> MethodOutput:
        raise NotImplementedError


def test_statistics_are_learned_on_the_device_that_trains(tmp_path: Path) -> None:
    """The meta device stands in for one that is not the CPU."""
    root = tiny.write_folder(tmp_path / "data")
    data = build_data(tiny.config("model=control_mean", f"data.root={root}")["data"])
    data.setup()
    told = Told()
    learn_statistics(told, data, torch.device("meta"))
    assert told.devices == {"meta"}
    assert told.mean.device.type == "meta"  # pyright: ignore[reportAttributeAccessIssue]
    (*_, last) = batches(data.test_dataloader(), ScoringModel(told, data.image_size).to("meta"))
    assert last["image"].device.type == "meta"
    assert last["label"].device.type == "cpu"


def test_without_training_images_it_says_so(tmp_path: Path) -> None:
    root = tiny.write_folder(tmp_path / "data")
    overrides = (f"data.normal_dir={root}/test/0.normal", f"data.abnormal_dir={root}/test/hole", "data.root=null")
    data = build_data(tiny.config("model=control_mean", *overrides)["data"])
    data.setup()
    with pytest.raises(UserError, match="no training images"):
        CleanBatches(data)
