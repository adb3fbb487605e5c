"""Woven cloth, thread by thread."""

import numpy as np
from numpy.typing import NDArray

from drawn.fields import Plane, Rng

THREADS = 512  # more than any picture holds, in either direction
PLAIN = np.array([[1, 0], [0, 1]], bool)  # True: the thread along x lies on top
TWILL = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 1]], bool)
BASKET = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], bool)


def yarns(rng: Rng, uneven: float) -> NDArray[np.float64]:
    """The brightness of each thread along x and along y, (2, THREADS), mean 1."""
    return rng.normal(1, uneven, (2, THREADS))


def woven(u: Plane, v: Plane, pitch: float, pattern: NDArray[np.bool_], yarn: NDArray[np.float64]) -> Plane:
    """Height and shade of cloth in [0, about 1].

    Args:
        u: coordinate along the threads in x, in pixels.
        v: the other one.
        pitch: distance of two threads, in pixels.
        pattern: (n, n), repeated; which of two crossing threads lies on top.
        yarn: of `yarns`.
    """
    column, row = np.floor(u / pitch).astype(int), np.floor(v / pitch).astype(int)
    across_x, across_y = u / pitch - column - 0.5, v / pitch - row - 0.5
    n = len(pattern)
    along_x = pattern[row % n, column % n]
    side, along = np.where(along_x, across_y, across_x), np.where(along_x, across_x, across_y)
    shade = np.cos(np.pi * side) ** 0.7 * (0.72 + 0.28 * np.cos(np.pi * along))
    return shade * np.where(along_x, yarn[0][row % THREADS], yarn[1][column % THREADS])
