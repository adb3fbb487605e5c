"""anomap-preview: what hard augmentation makes of the training images, before anyone trains."""

from pathlib import Path
from typing import Any

import torch

from anomap.config import build, check_seed, check_whole
from anomap.data.build import build_data
from anomap.data.imageset import to_float
from anomap.data.settle import settle
from anomap.viewing.augmentation_grid import augmentation_grid
from anomap.viewing.figures import save_figure

_CHOICE = 8  # images augmented for each one shown, so that the smallest and the largest changes are among them


def command(config: dict[str, Any], folder: Path) -> None:
    """Write the grid and say where."""
    print(preview(config, folder))


def preview(config: dict[str, Any], folder: Path) -> Path:
    """Write `augmentation.png` into `folder`: images, augmented images, masks, and what was drawn for each.

    The shown ones are chosen among more, evenly from the smallest changed area to the largest.
    """
    check_seed(config["seed"])
    check_whole("count", config["count"], 1)
    check_whole("epoch", config["epoch"], 0)
    config, found = settle(config)
    augmentation, epoch = build(config["augmentation"]), config["epoch"]
    data = build_data(config["data"], augmentation, config["seed"])
    data.layout = found
    data.setup()
    data.train_dataloader()  # says so if there is nothing to train on
    index = _spread(len(data.clean), _CHOICE * config["count"])
    images = to_float(data.clean[index.numpy()]["image"])
    augmented, masks = augmentation(images, index, epoch, data.clean.images)
    by_size = masks.mean((1, 2, 3)).argsort(stable=True)
    shown = by_size[_spread(len(index), config["count"])]
    names = augmentation.describe(index[shown], epoch)
    path = folder / "augmentation.png"
    save_figure(augmentation_grid(images[shown], augmented[shown], masks[shown], names), path)
    return path


def _spread(total: int, wanted: int) -> torch.Tensor:
    """At most `wanted` of the numbers 0 ... total - 1, spread evenly."""
    return torch.linspace(0, total - 1, min(wanted, total)).long()
