"""Training on tiles of photographs that are kept whole."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from anomap.config import is_number
from anomap.data.checks import check_image_size
from anomap.data.decode import release
from anomap.data.imageset import ImageSet
from anomap.data.samples import NORMAL, Sample
from anomap.data.tiles import Tiling, TrainingWindows
from anomap.errors import UserError

STATISTICS = 800  # tiles, spread evenly over all photographs, that closed-form statistics are learned from


def check_tiling(
    image_size: object, tile: object, overlap: object, scale: object, scales: object, stride: int
) -> Tiling | None:
    """None without tiles; UserError for a tile that the model cannot take, or an overlap or scales that are none."""
    if not (is_number(scale) and 0 < scale <= 1):
        raise UserError(f"data.scale={scale}: use a number above 0, at most 1: photographs are only shrunk")
    if not (is_number(overlap) and 0 <= overlap <= 0.75):
        raise UserError(f"data.tile_overlap={overlap}: use a share of the tile's side from 0 to 0.75")
    if scales is not None:
        return _looks(image_size, tile, float(overlap), scale, scales, stride)
    if tile is None:
        if scale != 1:
            raise UserError(f"data.scale={scale}: is for tiles (data.tile); without, data.image_size says the size")
        return None
    if type(tile) is not int:
        raise UserError(f"data.tile={tile}: use the side of a tile in pixels, auto, or null")
    return Tiling(check_image_size(tile, stride, "data.tile")[0], float(overlap))


def _looks(image_size: object, tile: object, overlap: float, scale: object, scales: object, stride: int) -> Tiling:
    """Several looks at each photograph; UserError for scales that are none, or beside tiles of its own size."""
    if tile is not None or scale != 1:
        raise UserError(
            f"data.scales={scales}: sees photographs resized to data.image_size times each; data.tile and data.scale see them "
            "at their own size: give one of the two"
        )
    found = [*scales] if isinstance(scales, Sequence) and not isinstance(scales, str) else []
    whole = bool(found) and all(type(one) is int and one >= 1 for one in found)
    if not whole or found != sorted(set(found)) or any(found[-1] % one for one in found):
        raise UserError(
            f"data.scales={scales}: use rising whole numbers that divide the last, such as [1,2] or [1,2,4], or null"
        )
    height, width = check_image_size(image_size, stride)
    if height != width:
        raise UserError(
            f"data.scales={scales}: looks through square tiles; give data.image_size one side, not {image_size}"
        )
    return Tiling(height, overlap, tuple(found))


@dataclass(eq=False)
class TileSet(Dataset[dict[str, Tensor]]):
    """Normal tiles; `tile_set[windows]`, with windows (B, 5) of `TrainingWindows.at`, is a whole batch."""

    photographs: ImageSet
    tiling: Tiling

    def __getitem__(self, windows: NDArray[np.int64]) -> dict[str, Tensor]:
        """`image` uint8 (B, C, tile, tile), `label` and `index` int64 (B,)."""
        index = torch.from_numpy(windows[:, 0].copy())
        return {
            "image": torch.from_numpy(cut(self.photographs, windows, self.tiling)),
            "label": torch.full_like(index, NORMAL),
            "index": index,
        }


def cut(photographs: ImageSet, windows: NDArray[np.int64], tiling: Tiling) -> NDArray[np.uint8]:
    """Tiles uint8 (B, C, tile, tile) at windows (B, 5) of `TrainingWindows.at`."""
    tiles = [
        tiling.cut(photographs.images[owner], np.array([[y, x]]), shrink)[0]
        for _, owner, y, x, shrink in windows.tolist()
    ]
    release(photographs.images)
    return np.stack(tiles)


def sampled_tiles(photographs: ImageSet, windows: TrainingWindows, size: tuple[int, int]) -> ImageSet:
    """At most `STATISTICS` tiles of all photographs, spread evenly: those of an epoch that is never trained."""
    placed = windows.at(2**31)
    count = min(STATISTICS, len(placed))
    chosen = placed[np.arange(count) * len(placed) // max(count, 1)]
    if not count:
        return ImageSet(np.empty((0, 1, *size), np.uint8), [])
    samples = [photographs.samples[owner] for owner in chosen[:, 1].tolist()]
    named = [
        Sample(f"{s.name}@{x},{y}", s.label, s.defect)
        for s, (_, _, y, x, _) in zip(samples, chosen.tolist(), strict=True)
    ]
    scaling = None if photographs.scaling is None else photographs.scaling[chosen[:, 1]]
    return ImageSet(cut(photographs, chosen, windows.tiling), named, scaling=scaling)
