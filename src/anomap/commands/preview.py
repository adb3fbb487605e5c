"""anomap-preview: what hard augmentation makes of the training images, before anyone trains."""

from pathlib import Path
from typing import Any

import torch

from anomap.config import build
from anomap.data.build import build_datamodule
from anomap.data.imageset import Donors, to_float
from anomap.viewing.augmentation_grid import augmentation_grid
from anomap.viewing.figures import save_figure


def command(config: dict[str, Any], folder: Path) -> None:
    """Write the grid and say where."""
    print(preview(config, folder))


def preview(config: dict[str, Any], folder: Path) -> Path:
    """Write `augmentation.png` into `folder`: images, augmented images, masks, and what was drawn for each."""
    augmentation = build(config["augmentation"])
    data = build_datamodule(config["data"], augmentation, config["seed"])
    data.setup()
    index = torch.linspace(0, len(data.train) - 1, min(config["count"], len(data.train))).long()
    images = to_float(data.train[index.numpy()]["image"])
    augmented, masks = augmentation(images, index, config["epoch"], Donors(data.train))
    path = folder / "augmentation.png"
    save_figure(augmentation_grid(images, augmented, masks, augmentation.describe(index, config["epoch"])), path)
    return path
