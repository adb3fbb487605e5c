"""The figure of augmented samples."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from anomap.viewing.augmentation_grid import augmentation_grid

from .textures import textured


def picture(figure: Figure) -> np.ndarray:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return np.asarray(Image.open(buffer).convert("RGB")).astype(int)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_three_tiles_per_sample_and_any_number_of_channels(channels: int) -> None:
    images = textured(10, channels, 16, 24)
    masks = torch.zeros(10, 1, 16, 24)
    figure = augmentation_grid(images, 1 - images, masks, [f"a x b + c x {i}" for i in range(10)], columns=4)
    shown = [axis.images[0].get_array() for axis in figure.axes if axis.images]
    assert len(shown) == 30
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == [f"a x b\nc x {i}" for i in range(10)]
    assert picture(figure).std() > 10


def test_the_mask_is_shown_in_orange() -> None:
    images = torch.full((1, 1, 16, 16), 0.2)
    masks = torch.zeros(1, 1, 16, 16)
    empty = picture(augmentation_grid(images, images, masks))
    masks[..., 4:12, 4:12] = 1
    marked = picture(augmentation_grid(images, images, masks))
    changed = (marked != empty).any(2)
    assert changed.any()
    assert (marked[changed][:, 0] > marked[changed][:, 2] + 20).mean() > 0.9


def test_no_global_state_of_pyplot_is_made() -> None:
    import matplotlib._pylab_helpers as helpers

    before = len(helpers.Gcf.figs)
    augmentation_grid(textured(2, 1, 8, 8), textured(2, 1, 8, 8), torch.zeros(2, 1, 8, 8))
    assert len(helpers.Gcf.figs) == before


def test_parts_that_do_not_belong_together_are_refused() -> None:
    images, masks = textured(2, 1, 8, 8), torch.zeros(2, 1, 8, 8)
    with pytest.raises(ValueError, match="do not belong together"):
        augmentation_grid(images, images, masks[:1])
    with pytest.raises(ValueError, match="do not belong together"):
        augmentation_grid(images[:0], images[:0], masks[:0])
    with pytest.raises(ValueError, match="1 names for 2 images"):
        augmentation_grid(images, images, masks, ["one"])
