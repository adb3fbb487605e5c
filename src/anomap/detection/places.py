"""Photographs that show the same thing at the same place: they are compared place by place. Needs no torch.

How a photograph lies beside normal ones is found out first (`anomap.data.registration`). Two things are then compared with the
mean μ and the variance v of normal photographs at that place, and at its neighbours N, since parts are never quite in theirs:

    z_m = (m - max_N μ) / √(max_N v + (s σ)²)      the anomaly map m, in cells: the rarest normal part of a board is rarer
                                                   than a small spot, but it is where it belongs
    z_g = |mean_N (g - μ)| / √(max_N v + (t σ)²)   the grey levels g of each channel, without what is coarse in the light and
                                                   with the contrast of μ: what is there and does not belong there (the
                                                   variation model of golden templates)
    z   = max z_g + w max(z_m, 0)                  σ²: of all places of all photographs; N: 3 x 3

Of photographs that are less alike (`ALIKE`) grey levels say little: z = z_m.
The score is the mean of z's highest cells. What half of the normal photographs do not show, because they lie elsewhere, is not
judged: z is about 0 there.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from anomap.data.registration import ALIKE, Plane, Pose, agreement, inverse, laid_out, moved, outlines, pose, rescaled
from anomap.data.resizing import at_most, reduced, resize_map

Photograph = NDArray[np.uint8]

CELL = 8  # pixels of the map: about what parts of one place may be apart
TOP = 10  # cells, whose mean is the score: a spot of 8 pixels and what it does around it
BAND = 256  # rows that are compared at once
SOFT = 0.5  # s: a few normal photographs say little about the variance of a cell
MAP_WEIGHT = 0.5  # w
SHOWN = 1024  # pixels of the longer side to which grey levels are shrunk
LIGHT = 49  # pixels of them: what is coarser is taken for light
SOFT_GREY = 0.1  # t
ROUNDING = 1 / 12  # variance of a grey level that is stored as a whole number
UNKNOWN = 6e4  # the spread where too few photographs show anything: nothing is far from normal there


def cells(plane: Plane) -> Plane:
    """The highest value of each cell: (H, W) -> (ceil(H / CELL), ceil(W / CELL))."""
    height, width = plane.shape
    missing = [(0, -height % CELL), (0, -width % CELL)]
    padded = np.pad(plane, missing, mode="edge") if missing != [(0, 0), (0, 0)] else plane  # which would copy it
    return padded.reshape(padded.shape[0] // CELL, CELL, -1, CELL).max((1, 3))


def greys(photograph: Photograph, size: tuple[int, int] | None = None) -> Plane:
    """The grey levels of a photograph (C, H, W) without light: (C, h, w) at `size`, of itself of `SHOWN` pixels at most."""
    from scipy.ndimage import uniform_filter  # a third of a second

    shown = reduced(photograph, size or at_most(photograph.shape[1:], SHOWN))
    return shown - np.stack([uniform_filter(plane, LIGHT) for plane in shown]).astype(np.float32, copy=False)


class Places(NamedTuple):
    """What normal photographs show; grey levels are empty of those that are not alike, of older checkpoints outlines too."""

    level: Plane  # (h, w), max_N μ of the map's cells
    spread: Plane  # (h, w), what z_m divides by
    outlines: Plane  # (h, w), by which photographs are laid out
    grey: NDArray[np.float16]  # (C, h, w), μ of the grey levels
    grey_spread: NDArray[np.float16]  # (C, h, w), what z_g divides by

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds them."""
        return {name: _plain(grid) for name, grid in self._asdict().items()}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> "Places":
        """The inverse of `to_dict`, and of what older versions wrote."""
        if "grids" in kept:
            level, spread = (_from_plain({"shape": kept["shape"], "data": grid}) for grid in kept["grids"])
            return cls(level, spread, *nothing())
        return cls(*(_from_plain(kept[name]) for name in cls._fields))


def nothing() -> tuple[Plane, NDArray[np.float16], NDArray[np.float16]]:
    """What is known of outlines and grey levels where photographs are taken as they lie."""
    return np.zeros((0, 0), np.float32), np.zeros((0, 0, 0), np.float16), np.zeros((0, 0, 0), np.float16)


def learned(photographs: Sequence[Photograph], maps: Iterable[Plane]) -> Places:
    """From at least one normal photograph (C, H, W), and the maps (H, W) of all, of one size."""
    seen = [outlines(photograph) for photograph in photographs]
    mean, poses = laid_out(seen)

    def laid(planes: Iterable[Plane]) -> Iterator[Plane]:
        for found, plane in zip(poses, planes, strict=True):
            yield _moved(plane, rescaled(found, mean.shape, plane.shape[-2:]), outside=np.nan)

    level, spread = of_maps(laid(maps))
    if agreement(seen, poses) < ALIKE:
        return Places(level, spread, mean, *nothing()[1:])
    grey, _, _ = _moments(laid(map(greys, photographs)))
    grey, grey_spread = of_greys(as_bright(shown, grey) for shown in laid(map(greys, photographs)))
    return Places(level, spread, mean, grey.astype(np.float16), grey_spread.astype(np.float16))


def as_bright(shown: Plane, grey: NDArray[np.floating]) -> Plane:
    """Grey levels (C, h, w), NaN where nothing is shown, with the contrast of the mean's: another exposure is no defect."""
    there = np.nan_to_num(shown)
    gain = float((there * grey).sum() / max(float((np.isfinite(shown) * grey**2).sum()), 1e-6))
    return shown / np.float32(np.clip(gain, 0.5, 2))


def of_maps(maps: Iterable[Plane]) -> tuple[Plane, Plane]:
    """Level and spread of every cell, (h, w) each, from maps (H, W) that lie alike; NaN is what a photograph does not show."""
    from scipy.ndimage import maximum_filter

    mean, variance, known = _moments(map(cells, maps))
    whole = float(variance[known].mean() + mean[known].var())  # of all cells of all photographs
    spread = np.sqrt(maximum_filter(variance, 3) + SOFT**2 * max(whole, 1e-12))
    return maximum_filter(mean, 3).astype(np.float32), np.where(known, spread, UNKNOWN).astype(np.float32)


def of_greys(shown: Iterable[Plane]) -> tuple[Plane, Plane]:
    """Mean and spread of every grey level, (C, h, w) each, of photographs that lie alike; NaN is what one does not show."""
    from scipy.ndimage import maximum_filter

    mean, variance, known = _moments(shown)
    near = np.stack([maximum_filter(plane, 3) for plane in variance])
    spread = np.sqrt(near + max(SOFT_GREY**2 * float(variance[known].mean()), ROUNDING))
    return mean.astype(np.float32), np.where(known, spread, UNKNOWN).astype(np.float32)


def _moments(planes: Iterable[Plane]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Mean and variance of what photographs show, and where at least half of them show anything."""
    photographs, count, total, squares = 0, np.zeros((), np.int64), np.zeros((), np.float64), np.zeros((), np.float64)
    for plane in planes:
        seen = np.isfinite(plane)
        there = np.where(seen, plane, 0).astype(np.float64)
        photographs, count, total, squares = photographs + 1, count + seen, total + there, squares + there**2
    shown = np.maximum(count, 1)
    mean = total / shown
    return mean, np.maximum(squares / shown - mean**2, 0), 2 * count >= photographs


def compare(plane: Plane, photograph: Photograph, places: Places) -> float:
    """Change the map (H, W) of a photograph in place to z; its score.

    Places are stretched over a photograph of another size.
    """
    if not places.outlines.size:
        return standardise(plane, places.level, places.spread)
    seen = places.outlines.shape
    there = inverse(pose(places.outlines, outlines(photograph, (seen[0], seen[1]))))
    lies = rescaled(there, seen, places.level.shape)
    score = standardise(plane, moved(places.level, lies), moved(places.spread, lies, UNKNOWN))
    if not places.grey.size:
        return score
    np.maximum(plane, 0, out=plane)
    plane *= MAP_WEIGHT
    plane += resize_map(grey_map(photograph, places, there), plane.shape)
    return _score(plane)


def grey_map(photograph: Photograph, places: Places, there: Pose) -> Plane:
    """The highest z_g of the channels (h, w); `there` is the pose of the mean beside the photograph, in outlines' pixels."""
    from scipy.ndimage import uniform_filter

    size = places.grey.shape[1], places.grey.shape[2]
    lies = rescaled(there, places.outlines.shape, size)
    grey = _moved(places.grey.astype(np.float32), lies)
    off = as_bright(greys(photograph, size), grey) - grey
    near = np.stack([uniform_filter(plane, 3) for plane in off])
    return (np.abs(near) / _moved(places.grey_spread.astype(np.float32), lies, UNKNOWN)).max(0)


def _moved(planes: Plane, found: Pose, outside: float | None = None) -> Plane:
    """Of one plane (h, w) or several (C, h, w)."""
    if planes.ndim == 2:
        return moved(planes, found, outside)
    return np.stack([moved(plane, found, outside) for plane in planes])


def standardise(plane: Plane, level: Plane, spread: Plane) -> float:
    """Change a map (H, W) in place to z_m, with level and spread (h, w) as they lie in it; its score by that alone.

    Between the middles of cells both are bilinear.
    """
    rows, columns = (_weights(small, large) for small, large in zip(level.shape, plane.shape, strict=True))
    for start in range(0, len(plane), BAND):  # nothing else of a photograph's size lies in memory
        band = slice(start, start + BAND)
        plane[band] -= rows[band] @ level @ columns.T
        plane[band] /= rows[band] @ spread @ columns.T
    return _score(plane)


def _score(plane: Plane) -> float:
    grid = cells(plane).ravel()
    top = min(TOP, grid.size)
    return float(np.partition(grid, -top)[-top:].mean())


def _weights(small: int, large: int) -> Plane:
    """(large, small): how much each cell counts at each pixel of an axis, bilinear."""
    at = np.clip((np.arange(large) + 0.5) * (small / large) - 0.5, 0, small - 1)
    low = np.minimum(at.astype(np.int64), max(0, small - 2))
    weights, pixels = np.zeros((large, small), np.float32), np.arange(large)
    weights[pixels, low] = 1 - (at - low)
    weights[pixels, np.minimum(low + 1, small - 1)] += at - low
    return weights


def _plain(grid: NDArray[Any]) -> dict[str, Any]:
    return {"shape": [*grid.shape], "type": grid.dtype.str, "data": b64encode(grid.tobytes()).decode()}


def _from_plain(kept: Mapping[str, Any]) -> Any:
    return np.frombuffer(b64decode(kept["data"]), kept.get("type", "<f4")).reshape(kept["shape"])
