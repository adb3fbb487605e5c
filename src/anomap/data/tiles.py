"""How a large photograph is cut into tiles of the network's size, and what was found in them put together again.

Nothing is padded where the photograph is large enough: the tiles of an axis are spread evenly from border to border, with at
least the overlap that is asked for. Where tiles overlap, their maps are blended by ramps, so that no seam shows; the outermost
pixels of a tile count only along the photograph's own border.

A photograph may be looked at several times (`data.scales`): shrunk to one tile, at twice that size in several, and so on.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomap.data.checks import check_image_size
from anomap.data.images import Size
from anomap.data.resizing import resize_map

AT_A_TIME = 4  # tiles: on a CPU as fast as 16, in 200 MB less
MARGIN = 0.25  # share of an overlap, at either end, where only the neighbour counts: networks see a tile's edge as something new
LARGE = 2.0  # times what the network sees: larger photographs are tiled by `auto`


@dataclass(frozen=True)
class Tiling:
    """Square tiles of so many pixels, which overlap their neighbours by at least this share of their side."""

    tile: int
    overlap: float = 0.25  # in [0, 1)
    # Of looks, rising: how many tiles the side has to which a photograph is resized. None: one look, at its own size.
    scales: tuple[int, ...] = ()

    @property
    def shrinks(self) -> tuple[int, ...]:
        """How many times smaller than it is stored each look sees a photograph."""
        return tuple(self.scales[-1] // scale for scale in self.scales) or (1,)

    def reads(self, scale: float) -> Size:
        """The size at which photographs are read and stored: (H, W) for several looks, else a factor of their own."""
        if not self.scales:
            return scale
        side = self.tile * self.scales[-1]
        return side, side

    def named(self, parts: Sequence[str], look: int | None = None) -> tuple[str, ...]:
        """Names of a score's parts, look by look or of one: plain at a scale of 1, elsewhere as `density_x2`."""
        scales = self.scales or (1,)
        wanted = scales if look is None else scales[look : look + 1]
        return tuple(name if scale == 1 else f"{name}_x{scale}" for scale in wanted for name in parts)

    def starts(self, length: int) -> NDArray[np.int64]:
        """Where the tiles of an axis of so many pixels begin; 0 alone for one that is no longer than a tile."""
        room = max(0, length - self.tile)
        step = max(1, math.floor(self.tile * (1 - self.overlap)))
        return np.linspace(0, room, math.ceil(room / step) + 1).round().astype(np.int64)

    def grid(self, shape: tuple[int, int]) -> NDArray[np.int64]:
        """All windows (T, 2) of a photograph (H, W), row by row; together they cover every pixel."""
        rows, columns = (self.starts(side) for side in shape)
        return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)

    def count(self, shape: tuple[int, int]) -> int:
        """How many tiles a photograph (H, W) has, over all looks."""
        looks = ([side // shrink for side in shape] for shrink in self.shrinks)
        return sum(math.prod(len(self.starts(side)) for side in seen) for seen in looks)

    def cut(self, image: NDArray[np.uint8], windows: NDArray[np.int64], shrink: int = 1) -> NDArray[np.uint8]:
        """Tiles (T, C, tile, tile) of an image (C, H, W) seen so many times smaller, at windows of what is seen.

        A smaller image is continued at its far borders.
        """
        side = self.tile * shrink
        found = (image[:, y : y + side, x : x + side] for y, x in (windows * shrink).tolist())
        return np.stack([self._padded(shrunk(piece, shrink)) for piece in found])

    def _padded(self, piece: NDArray[np.uint8]) -> NDArray[np.uint8]:
        missing = [(0, 0), *((0, self.tile - side) for side in piece.shape[1:])]
        return np.pad(piece, missing, mode="edge") if any(after for _, after in missing) else piece

    def ramp(self, starts: NDArray[np.int64]) -> NDArray[np.float32]:
        """How much each tile of an axis counts at each of its pixels (T, tile), from 0 to 1, before the sum is made one."""
        place = np.arange(self.tile) + 0.5
        shared = np.maximum(0, self.tile - np.diff(starts))  # pixels that neighbours share
        up, down = (self._slope(place, widths) for widths in ([0, *shared], [*shared, 0]))
        return (up * down[:, ::-1]).astype(np.float32)

    @staticmethod
    def _slope(place: NDArray[np.floating], widths: Sequence[int]) -> NDArray[np.floating]:
        """0 over the first `MARGIN` of so many pixels, 1 over the last and behind them: one row for each width."""
        width = np.maximum(widths, 0.5)[:, None]
        return np.clip((place / width - MARGIN) / (1 - 2 * MARGIN), 0, 1)


def shrunk(image: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    """An image (C, H, W) so many times smaller: the rounded mean of each square of pixels."""
    if times == 1:
        return image
    channels, height, width = image.shape
    squares = image.reshape(channels, height // times, times, width // times, times)
    return np.rint(squares.mean((2, 4), dtype=np.float32)).astype(np.uint8)


def tiling_of(data: Mapping[str, Any]) -> Tiling | None:
    """That of a checked `data` group; None without tiles."""
    if scales := data.get("scales"):
        return Tiling(check_image_size(data["image_size"])[0], data["tile_overlap"], tuple(scales))
    return None if data.get("tile") is None else Tiling(data["tile"], data["tile_overlap"])


def finest_scale(data: Mapping[str, Any]) -> int:
    """How many times `data.image_size` the last look of a `data` group sees; 1 without several."""
    return (data.get("scales") or [1])[-1]


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


class Stitch:
    """Puts the maps of a photograph's tiles together, in two planes of its size whatever the number of tiles."""

    def __init__(self, tiling: Tiling, shape: tuple[int, int], channels: int = 1) -> None:
        self.tiling, self.shape = tiling, shape
        self._ramps = [dict(zip(s.tolist(), tiling.ramp(s), strict=True)) for s in map(tiling.starts, shape)]
        self._sum = np.zeros((channels, *shape), np.float32)
        # overlapping ramps do not add up to one where tiles were rounded: the sum of each axis
        self._weight = [np.zeros(side, np.float32) for side in shape]
        for weight, ramps in zip(self._weight, self._ramps, strict=True):
            for start, ramp in ramps.items():
                part = weight[start : start + tiling.tile]
                part += ramp[: len(part)]

    def add(self, window: Sequence[int], plane: NDArray[np.float32]) -> None:
        """The map (channels, tile, tile) of the tile at this window, top and left, of `Tiling.grid`."""
        (y, x), side = window, self.tiling.tile
        into = self._sum[:, y : y + side, x : x + side]
        height, width = into.shape[1:]
        weight = self._ramps[0][y][:height, None] * self._ramps[1][x][:width]
        into += plane[:, :height, :width] * weight

    def finish(self) -> NDArray[np.float32]:
        """The whole map (channels, H, W)."""
        self._sum /= self._weight[0][:, None]
        self._sum /= self._weight[1]
        return self._sum


def stitched(
    maps_of: Callable[[NDArray[np.uint8], int], Mapping[str, NDArray[np.float32]]],
    photograph: NDArray[np.uint8],
    tiling: Tiling,
    at_a_time: int = AT_A_TIME,
) -> dict[str, NDArray[np.float32]]:
    """The maps, by name, of a photograph uint8 (C, H, W), each (channels, H, W), blended where tiles overlap.

    `maps_of` gives those (T, channels, tile, tile) of some tiles uint8 (T, C, tile, tile) of a look, counted from 0; it is
    called for all of them, a few at a time, in the order of `Tiling.grid`. Memory does not grow with their number. The map
    of several looks is their mean, at the size of the finest.
    """
    height, width = photograph.shape[1:]
    looks = [_one_look(maps_of, photograph, tiling, look, at_a_time) for look in range(len(tiling.shrinks))]
    if len(looks) == 1:
        return looks[0]
    return {name: _mean([_resized(seen[name], (height, width)) for seen in looks]) for name in looks[0]}


def _one_look(
    maps_of: Callable[[NDArray[np.uint8], int], Mapping[str, NDArray[np.float32]]],
    photograph: NDArray[np.uint8],
    tiling: Tiling,
    look: int,
    at_a_time: int,
) -> dict[str, NDArray[np.float32]]:
    """The maps of one look at a photograph, at the size at which it is seen."""
    shrink, (height, width) = tiling.shrinks[look], photograph.shape[1:]
    shape, stitches = (height // shrink, width // shrink), dict[str, Stitch]()
    windows = tiling.grid(shape)
    for start in range(0, len(windows), at_a_time):
        part = windows[start : start + at_a_time]
        for name, maps in maps_of(tiling.cut(photograph, part, shrink), look).items():
            stitch = stitches.setdefault(name, Stitch(tiling, shape, maps.shape[1]))
            for window, plane in zip(part.tolist(), maps, strict=True):
                stitch.add(window, plane)
    return {name: stitch.finish() for name, stitch in stitches.items()}


def _mean(maps: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Of several of one shape, in the place of the first."""
    for other in maps[1:]:
        maps[0][...] += other
    maps[0][...] /= len(maps)
    return maps[0]


def _resized(maps: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Maps (channels, h, w) at another size."""
    return np.stack([resize_map(plane, size) for plane in maps])


@dataclass(frozen=True)
class TrainingWindows:
    """Which tile each training example is: drawn afresh in every epoch, a pure function of (seed, epoch, index).

    An epoch has as many examples as all photographs together have tiles in their grids; of several looks each has its share.
    """

    tiling: Tiling
    shapes: NDArray[np.int64]  # (N, 2), of the photographs
    seed: int = 0

    def __len__(self) -> int:
        return len(self.owners)

    @cached_property
    def owners(self) -> NDArray[np.int64]:
        """(count,), which photograph each example is cut from."""
        counts = [self.tiling.count((int(h), int(w))) for h, w in self.shapes]
        return np.repeat(np.arange(len(counts)), counts)

    def at(self, epoch: int) -> NDArray[np.int64]:
        """(count, 5): index of the example, photograph, top, left, how many times smaller it is seen."""
        owners, looks = self.owners, np.array(self.tiling.shrinks)
        shrinks = looks[np.random.default_rng([self.seed, epoch, 2]).integers(len(looks), size=len(owners))]
        room = np.maximum(0, self.shapes[owners] // shrinks[:, None] - self.tiling.tile)
        drawn = np.random.default_rng([self.seed, epoch, 1]).random((len(owners), 2))
        return np.column_stack([np.arange(len(owners)), owners, np.floor(drawn * (room + 1)).astype(np.int64), shrinks])
