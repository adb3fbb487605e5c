"""How a photograph lies beside the mean of normal ones of the same thing: shift, turn and scale. Needs no torch.

A board is never laid down twice in quite the same way. Windows of the photograph are compared with the same windows of the mean
by phase correlation (Kuglin and Hines 1975), and a similarity is fitted to their shifts: least squares in which a window counts
by the height of its peak, and little where the others contradict it (iteratively reweighted).
"""

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomap.data.resizing import at_most, reduced

Plane = NDArray[np.float32]
# (2, 3), M and t: what the mean has at row and column q, the photograph has at M q + t, in pixels of planes of one size
Pose = NDArray[np.floating]

SEEN = 512  # pixels of the longer side of a shrunk plane
COARSE = 3.0  # pixels: what is coarser is taken for light
WINDOWS = 5  # along each axis; each is as long as two of the distances between their middles
ROUNDS = 2  # in each of which the windows follow what the one before found
DOUBT = 0.5  # pixels that a window may contradict the others before it counts half
SMALLEST = 32  # pixels of a side: smaller planes stay as they lie
FURTHEST = 0.2  # of a side, that a photograph may be shifted; and how much it may be turned (radians) or scaled
ALIKE = 0.8  # `agreement` of photographs of which one tells the grey levels of another
IDENTITY: Pose = np.eye(2, 3)


def outlines(photograph: NDArray[np.uint8], size: tuple[int, int] | None = None) -> Plane:
    """What is small in a photograph (C, H, W), without light: shrunk to `size`, of itself to `SEEN` pixels at most."""
    from scipy.ndimage import gaussian_filter  # a third of a second

    grey = reduced(photograph, size or at_most(photograph.shape[1:], SEEN)).mean(0)
    return grey - gaussian_filter(grey, COARSE)


def laid_out(planes: Sequence[Plane]) -> tuple[Plane, list[Pose]]:
    """The mean of what normal photographs show, where they lie on average, and the pose of each beside it."""
    poses = [pose(planes[0], plane) for plane in planes]
    mean = moved(_mean(planes, poses), inverse(np.mean(poses, axis=0)))
    poses = [pose(mean, plane) for plane in planes]
    return _mean(planes, poses), poses


def agreement(planes: Sequence[Plane], poses: Sequence[Pose]) -> float:
    """How much planes show the same at the same place: the median correlation of pairs that are laid out, in [-1, 1]."""
    laid = [moved(plane, found).ravel() for plane, found in zip(planes, poses, strict=True)]
    unit = np.stack([plane / max(float(np.linalg.norm(plane)), 1e-6) for plane in laid])
    return float(np.median((unit @ unit.T)[np.triu_indices(len(unit), 1)])) if len(unit) > 1 else 1.0


def _mean(planes: Sequence[Plane], poses: Sequence[Pose]) -> Plane:
    return np.stack([moved(plane, found) for plane, found in zip(planes, poses, strict=True)]).mean(0)


def pose(mean: Plane, plane: Plane) -> Pose:
    """Where a plane (h, w) has what the mean (h, w) has; `IDENTITY` if that is too far, or does not make the two more alike."""
    if min(mean.shape) < SMALLEST:
        return IDENTITY
    steps = np.array(mean.shape) // (WINDOWS + 1)
    corners = np.array([*product(range(WINDOWS), repeat=2)]) * steps
    sides = 2 * steps
    whole = _shifts(_spectra(mean[None]), _spectra(plane[None]), np.array(mean.shape))[0][0]
    found = np.column_stack([np.eye(2), whole])
    expected = _spectra(_windows(mean, corners, sides))
    for _ in range(ROUNDS):
        shifts, peaks = _shifts(expected, _spectra(_windows(moved(plane, found), corners, sides)), sides)
        found = _after(found, _similarity(corners + steps - 0.5, shifts, peaks))
    middle = (np.array(mean.shape) - 1) / 2
    off = [*(found[:, :2] - np.eye(2)).ravel(), *(found[:, :2] @ middle + found[:, 2] - middle) / mean.shape]
    if np.abs(off).max() > FURTHEST or _likeness(mean, moved(plane, found)) <= _likeness(mean, plane):
        return IDENTITY
    return found


def _likeness(mean: Plane, plane: Plane) -> float:
    return float((mean * plane).sum() / max(float(np.linalg.norm(plane)), 1e-6))


def moved(plane: Plane, found: Pose, outside: float | None = None) -> Plane:
    """A plane as it would be where the mean lies, bilinear; what it does not show is `outside`, or its border goes on."""
    from scipy.ndimage import affine_transform

    options: dict[str, Any] = {"mode": "nearest"} if outside is None else {"mode": "constant", "cval": outside}
    shown: Any = affine_transform(plane, found[:, :2], offset=found[:, 2], order=1, **options)  # pyright: ignore[reportArgumentType]
    return shown


def inverse(found: Pose) -> Pose:
    """The pose of the mean beside the photograph."""
    back = np.linalg.inv(found[:, :2])
    return np.column_stack([back, -back @ found[:, 2]])


def rescaled(found: Pose, shape: Sequence[int], to: Sequence[int]) -> Pose:
    """A pose in pixels of planes (h, w) of `shape`, in those of the same planes at another size."""
    times, half = np.array(to) / shape, np.full(2, 0.5)
    middle = found[:, :2] @ (half / times - half) + found[:, 2] + half  # of the first pixel
    return np.column_stack([found[:, :2] * times[:, None] / times, middle * times - half])


def _after(outer: Pose, inner: Pose) -> Pose:
    """The pose q -> outer(inner(q))."""
    matrix = outer[:, :2]
    return np.column_stack([matrix @ inner[:, :2], matrix @ inner[:, 2] + outer[:, 2]])


def _windows(plane: Plane, corners: NDArray[np.integer], sides: NDArray[np.integer]) -> Plane:
    """(N, *sides), each from one of its N upper left corners on."""
    return np.stack([plane[y : y + sides[0], x : x + sides[1]] for y, x in corners])


def _spectra(planes: Plane) -> Any:
    """Of planes (N, h, w) that fade out towards their borders: (N, h, w // 2 + 1), complex."""
    from scipy.fft import rfft2  # of float32 twice as fast as NumPy's

    return rfft2(planes * (_taper(planes.shape[1])[:, None] * _taper(planes.shape[2])))


def _shifts(
    expected: Any, spectra: Any, sides: NDArray[np.integer]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """By how many rows and columns planes are shifted (N, 2), and the height of the peak that says so (N,), at most 1.

    From the spectra that are expected, the mean's, and theirs; and from their sides.
    """
    from scipy.fft import irfft2

    crossed = spectra * expected.conj()
    surface: Any = irfft2(crossed / (np.abs(crossed) + 1e-9), tuple(sides))
    every = np.arange(len(surface))
    peaks = np.stack(np.unravel_index(surface.reshape(len(surface), -1).argmax(1), tuple(sides)), axis=1)

    def height(at: NDArray[np.integer]) -> NDArray[np.floating]:
        y, x = (at % sides).T
        return surface[every, y, x]

    highest, found = height(peaks), (peaks + sides // 2) % sides - sides // 2 + 0.0
    for axis, unit in enumerate(np.eye(2, dtype=int)):  # between pixels: the top of a parabola
        before, after = height(peaks - unit), height(peaks + unit)
        bend = before - 2 * highest + after
        found[:, axis] += np.where(bend < 0, 0.5 * (before - after) / np.minimum(bend, -1e-12), 0)
    return found, highest


@cache
def _taper(length: int) -> Plane:
    return np.hanning(length + 2)[1:-1].astype(np.float32)


def _similarity(middles: NDArray[np.floating], shifts: NDArray[np.floating], weights: NDArray[np.floating]) -> Pose:
    """The pose q -> q + (a I + b J) (q - c) + t nearest to the shifts (N, 2) at N `middles`; J is a quarter turn, c their mean."""
    offset = middles - middles.mean(0)
    design = np.zeros((len(middles), 2, 4))  # of the unknown a, b, t
    design[:, :, 0], design[:, 0, 1], design[:, 1, 1] = offset, -offset[:, 1], offset[:, 0]
    design[:, 0, 2] = design[:, 1, 3] = 1
    counts, found = weights, np.zeros(4)
    for _ in range(10):
        root = np.sqrt(counts)[:, None]
        found = np.linalg.lstsq((design * root[..., None]).reshape(-1, 4), (shifts * root).ravel(), rcond=None)[0]
        counts = weights / (1 + (np.linalg.norm(design @ found - shifts, axis=1) / DOUBT) ** 2)
    a, b, *t = found.tolist()
    matrix = np.array([[1 + a, -b], [b, 1 + a]])
    return np.column_stack([matrix, np.array(t) - (matrix - np.eye(2)) @ middles.mean(0)])
