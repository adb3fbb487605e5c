"""Photographs that show the same thing at the same place: their maps are compared place by place. Needs no torch.

The rarest normal part of a board is rarer than a small spot. So each cell of a photograph's map m is compared with the same
cell of normal photographs, mean μ and variance v, and with its neighbours', since photographs are never quite aligned:

    z(c) = (m(c) - max_N μ) / √(max_N v + (s σ)²)      N: 3 x 3 cells; σ²: of all cells of all photographs
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

CELL = 8  # pixels: about what photographs of one place may be apart
TOP = 10  # cells, whose mean is the score: a spot of 8 pixels and what it does around it
BAND = 256  # rows that are compared at once
SOFT = 0.5  # s: a few normal photographs say little about the variance of a cell


def cells(plane: Plane) -> Plane:
    """The highest value of each cell: (H, W) -> (ceil(H / CELL), ceil(W / CELL))."""
    height, width = plane.shape
    missing = [(0, -height % CELL), (0, -width % CELL)]
    padded = np.pad(plane, missing, mode="edge") if missing != [(0, 0), (0, 0)] else plane  # which would copy it
    return padded.reshape(padded.shape[0] // CELL, CELL, -1, CELL).max((1, 3))


def learned(planes: Iterable[Plane]) -> tuple[Plane, Plane]:
    """Level and spread of every cell, (h, w) each, from maps (H, W) of at least one normal photograph, all of one size."""
    count, total, squares = 0, np.zeros((), np.float64), np.zeros((), np.float64)
    for plane in planes:
        grid = cells(plane).astype(np.float64)
        count, total, squares = count + 1, total + grid, squares + grid**2
    mean = total / count
    from scipy.ndimage import maximum_filter  # a third of a second

    variance = np.maximum(squares / count - mean**2, 0)
    whole = variance.mean() + mean.var()  # of all cells of all photographs
    spread = np.sqrt(maximum_filter(variance, 3) + SOFT**2 * max(float(whole), 1e-12))
    return maximum_filter(mean, 3).astype(np.float32), spread.astype(np.float32)


def compare(plane: Plane, level: Plane, spread: Plane) -> float:
    """Change a map (H, W) in place to standard deviations of its places; its score: the mean of the highest `TOP` cells.

    Between the middles of cells, `level` and `spread` (h, w) are bilinear; they are stretched over a photograph of another size.
    """
    rows, columns = (_weights(small, large) for small, large in zip(level.shape, plane.shape, strict=True))
    for start in range(0, len(plane), BAND):  # nothing else of a photograph's size lies in memory
        band = slice(start, start + BAND)
        plane[band] -= rows[band] @ level @ columns.T
        plane[band] /= rows[band] @ spread @ columns.T
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


def plain(*grids: Plane) -> dict[str, Any]:
    """Grids of one shape as JSON holds them."""
    return {
        "shape": list(grids[0].shape),
        "grids": [b64encode(grid.astype("<f4").tobytes()).decode() for grid in grids],
    }


def from_plain(kept: Mapping[str, Any]) -> list[Plane]:
    """The inverse of `plain`."""
    return [np.frombuffer(b64decode(grid), "<f4").reshape(kept["shape"]) for grid in kept["grids"]]
