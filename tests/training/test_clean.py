"""The pass over clean images that closed-form statistics and feature caches rely on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from anomap.data.build import build_datamodule
from anomap.errors import UserError
from anomap.training.clean import CleanBatches
from tests import tiny


def test_CleanBatches_are_all_training_images_in_stored_order(tmp_path: Path) -> None:
    """Image i of the pass is image i of the training set: what a batch's `index` points to."""
    root = tiny.write_folder(tmp_path / "data")
    data = build_datamodule(tiny.config("model=control_mean", f"data.root={root}")["data"])
    data.setup()
    images = torch.cat(list(CleanBatches(data)))
    assert images.dtype == torch.float32
    assert np.array_equal((images * 255).round().to(torch.uint8).numpy(), data.train.images)


def test_without_training_images_it_says_so(tmp_path: Path) -> None:
    root = tiny.write_folder(tmp_path / "data")
    overrides = (f"data.normal_dir={root}/test/0.normal", f"data.abnormal_dir={root}/test/hole", "data.root=null")
    data = build_datamodule(tiny.config("model=control_mean", *overrides)["data"])
    data.setup()
    with pytest.raises(UserError, match="no training images"):
        CleanBatches(data)
