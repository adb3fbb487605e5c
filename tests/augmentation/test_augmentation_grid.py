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


@pytest.mark.thorough
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


def test_the_changed_area_stands_below_each_sample() -> None:
    images, masks = textured(3, 1, 32, 32), torch.zeros(3, 1, 32, 32)
    masks[1, :, 0, 0] = 1
    masks[2] = 1
    labels = [axis.get_xlabel() for axis in augmentation_grid(images, images, masks).axes]
    assert [label for label in labels if label] == [f"{area} of the image" for area in ("0.00%", "0.10%", "100.00%")]


def test_a_frame_shows_where_a_small_change_is() -> None:
    images, masks = textured(3, 1, 64, 64), torch.zeros(3, 1, 64, 64)
    masks[1, :, 40:43, 10:14] = 1
    masks[2, :, :30] = 1  # seen without one
    figure = augmentation_grid(images, images, masks)
    framed = [axis for axis in figure.axes if axis.patches]
    assert [axis.get_xlabel() for axis in framed] == ["0.29% of the image"]
    (frame,) = framed[0].patches
    assert frame.get_bbox().x0 < 10 < 13 < frame.get_bbox().x1  # pyright: ignore[reportAttributeAccessIssue]
    assert frame.get_bbox().y0 < 40 < 42 < frame.get_bbox().y1  # pyright: ignore[reportAttributeAccessIssue]


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
