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

LARGE = 2.0  # times what the network sees: larger photographs are tiled by `auto`
STATISTICS = 800  # tiles, spread evenly over all photographs, that closed-form statistics are learned from


def check_tiling(tile: object, overlap: object, scale: object, stride: int) -> Tiling | None:
    """None without tiles; UserError for a tile that the model cannot take, or an overlap or scale that is none."""
    if not (is_number(scale) and 0 < scale <= 1):
        raise UserError(f"data.scale={scale}: use a number above 0, at most 1: photographs are only shrunk")
    if not (is_number(overlap) and 0 <= overlap <= 0.75):
        raise UserError(f"data.tile_overlap={overlap}: use a share of the tile's side from 0 to 0.75")
    if tile is None:
        if scale != 1:
            raise UserError(f"data.scale={scale}: is for tiles (data.tile); without, data.image_size says the size")
        return None
    if type(tile) is not int:
        raise UserError(f"data.tile={tile}: use the side of a tile in pixels, auto, or null")
    return Tiling(check_image_size(tile, stride, "data.tile")[0], float(overlap))


def choose_tile(
    sizes: Sequence[tuple[int, int]], image_size: int | Sequence[int], scale: float
) -> tuple[int | None, str]:
    """What `data.tile=auto` means for photographs of these (H, W): a tile or None, and why.

    Tiles where the shorter side of most is at least `LARGE` times what the network sees.
    """
    seen = image_size if isinstance(image_size, int) else min(image_size)
    if not sizes:
        return None, "there is no file to look at"
    height, width = sorted(sizes, key=lambda size: size[0] * size[1])[len(sizes) // 2]
    shrunk = min(height, width) * scale / seen
    why = f"photographs of about {width} x {height} pixels are {shrunk:.1f} times as large as the {seen} that the network sees"
    return (seen if shrunk >= LARGE else None), why


@dataclass(eq=False)
class TileSet(Dataset[dict[str, Tensor]]):
    """Normal tiles; `tile_set[windows]`, with windows (B, 4) of `TrainingWindows.at`, is a whole batch."""

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
    """Tiles uint8 (B, C, tile, tile) at windows (B, 4) of `TrainingWindows.at`."""
    tiles = [tiling.cut(photographs.images[owner], np.array([[y, x]]))[0] for _, owner, y, x in windows.tolist()]
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
        Sample(f"{s.name}@{x},{y}", s.label, s.defect) for s, (_, _, y, x) in zip(samples, chosen.tolist(), strict=True)
    ]
    scaling = None if photographs.scaling is None else photographs.scaling[chosen[:, 1]]
    return ImageSet(cut(photographs, chosen, windows.tiling), named, scaling=scaling)
