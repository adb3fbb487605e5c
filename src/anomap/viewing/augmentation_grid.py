"""A figure of augmented samples, to be looked at before anyone trains: image, augmented image, mask.

augmentation_grid(images, augmented, masks, names).savefig("augmentation.png")
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

_MASK_COLOUR = np.array([1.0, 0.5, 0.05])  # the orange that stands for abnormal in every figure
_SMALL = 0.01  # share of the image below which a change is easily overlooked
_ROWS = ("image", "augmented", "mask")


def augmentation_grid(
    images: Tensor,
    augmented: Tensor,
    masks: Tensor,
    names: Sequence[str] | None = None,
    columns: int = 8,
) -> Figure:
    """Samples side by side, each a column of image, augmented image and the same with the mask in orange.

    Below each stands how much of the image changed; a thin frame shows where a small change is.

    Args:
        images: (B, C, H, W) in [0, 1]; of more than three channels the first three are shown, of two one.
        augmented: (B, C, H, W) in [0, 1].
        masks: (B, 1, H, W), 1 where changed.
        names: B titles.
        columns: samples beside one another; more continue below.

    Raises:
        ValueError: the batch is empty, or the sizes do not belong together.
    """
    count = len(images)
    if count == 0 or images.shape != augmented.shape or masks.shape != (count, 1, *images.shape[2:]):
        shapes = ", ".join(str(tuple(part.shape)) for part in (images, augmented, masks))
        raise ValueError(f"images, augmented and masks do not belong together: {shapes}")
    if names is not None and len(names) != count:
        raise ValueError(f"{len(names)} names for {count} images")
    columns = min(columns, count)
    bands = -(-count // columns)
    height, width = images.shape[2:]
    # Title and tiles in inches; constrained layout then finds the exact places.
    figure = Figure(
        figsize=(1.5 * columns + 0.4, bands * (3 * 1.5 * height / width + (0.95 if names else 0.4))),
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(3 * bands, columns, squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.set_frame_on(False)

    clean, changed = _pixels(images), _pixels(augmented)
    weight = 0.55 * masks[:, 0, :, :, None].detach().cpu().numpy()
    overlay = changed * (1.0 - weight) + _MASK_COLOUR * weight
    for number in range(count):
        band, column = divmod(number, columns)
        for row, tile in enumerate((clean[number], changed[number], overlay[number])):
            axis = axes[3 * band + row, column]
            axis.imshow(tile, vmin=0.0, vmax=1.0, interpolation="nearest")
            if column == 0:
                axis.set_ylabel(_ROWS[row], fontsize=8)
        share = masks[number].mean().item()
        axes[3 * band + 2, column].set_xlabel(f"{share:.2%} of the image", fontsize=6)
        if 0.0 < share < _SMALL:
            axes[3 * band + 2, column].add_patch(_frame(masks[number, 0]))
        if names is not None:
            axes[3 * band, column].set_title(names[number].replace(" + ", "\n"), fontsize=6)
    return figure


def _frame(mask: Tensor) -> Rectangle:
    """A frame around all that changed in a mask (H, W), at a distance."""
    rows, columns = (mask.detach().cpu().amax(axis).nonzero()[:, 0].numpy() for axis in (1, 0))
    away = 0.03 * max(mask.shape)
    width, height = columns[-1] - columns[0] + 2 * away, rows[-1] - rows[0] + 2 * away
    return Rectangle(
        (columns[0] - away, rows[0] - away), width, height, fill=False, edgecolor=_MASK_COLOUR, linewidth=0.7
    )


def _pixels(images: Tensor) -> np.ndarray:
    """(B, C, H, W) of any number of channels as (B, H, W, 3)."""
    shown = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    return shown.detach().cpu().float().clamp(0.0, 1.0).permute(0, 2, 3, 1).numpy()
