"""A figure of augmented samples, to be looked at before anyone trains."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from anomap.viewing.figures import new_figure

_MASK_COLOUR = np.array([1.0, 0.5, 0.05])  # the orange that stands for abnormal in every figure
_SMALL = 0.01  # share of the image below which a change is easily overlooked


def augmentation_grid(
    images: Tensor, augmented: Tensor, masks: Tensor, names: Sequence[str] | None = None, columns: int = 8
) -> Figure:
    """Samples side by side, each a column of image, augmented image and the same with the mask in orange.

    Below each stands how much of the image changed; a thin frame shows where a small change is. Images are
    (B, C, H, W) in [0, 1], of which one channel or the first three are shown, and masks (B, 1, H, W), 1 where changed.

    Raises:
        ValueError: the batch is empty, or the sizes do not belong together.
    """
    count = len(images)
    if count == 0 or images.shape != augmented.shape or masks.shape != (count, 1, *images.shape[2:]):
        shapes = ", ".join(str(tuple(part.shape)) for part in (images, augmented, masks))
        raise ValueError(f"images, augmented and masks do not belong together: {shapes}")
    if names is not None and len(names) != count:
        raise ValueError(f"{len(names)} names for {count} images")
    columns, (height, width) = min(columns, count), images.shape[2:]
    bands = -(-count // columns)
    figure = new_figure(1.5 * columns + 0.4, bands * (3 * 1.5 * height / width + (0.95 if names else 0.4)))
    bare = {"xticks": [], "yticks": [], "frame_on": False}
    axes = figure.subplots(3 * bands, columns, squeeze=False, subplot_kw=bare)
    clean, changed = _pixels(images), _pixels(augmented)
    weight = 0.55 * masks[:, 0, :, :, None].detach().cpu().numpy()
    rows = {"image": clean, "augmented": changed, "mask": changed * (1.0 - weight) + _MASK_COLOUR * weight}
    for number in range(count):
        band, column = divmod(number, columns)
        own = axes[3 * band : 3 * band + 3, column]
        for axis, (row, tiles) in zip(own, rows.items(), strict=True):
            axis.imshow(tiles[number], vmin=0.0, vmax=1.0, interpolation="nearest")
            if column == 0:
                axis.set_ylabel(row, fontsize=8)
        share = masks[number].mean().item()
        own[2].set_xlabel(f"{share:.2%} of the image", fontsize=6)
        if 0.0 < share < _SMALL:
            own[2].add_patch(_frame(masks[number, 0]))
        if names is not None:
            own[0].set_title(names[number].replace(" + ", "\n"), fontsize=6)
    return figure


def _frame(mask: Tensor) -> Rectangle:
    """A frame around all that changed in a mask (H, W), at a distance."""
    rows, columns = (mask.detach().cpu().amax(axis).nonzero()[:, 0].numpy() for axis in (1, 0))
    away = 0.03 * max(mask.shape)
    left, top, right, bottom = columns[0] - away, rows[0] - away, columns[-1] + away, rows[-1] + away
    return Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=_MASK_COLOUR, linewidth=0.7)


def _pixels(images: Tensor) -> np.ndarray:
    """(B, C, H, W) of any number of channels as (B, H, W, 3)."""
    shown = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    return shown.detach().cpu().float().clamp(0.0, 1.0).permute(0, 2, 3, 1).numpy()
