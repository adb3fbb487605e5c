"""Copies that are not byte for byte: a test image that was saved again, in another format, quality or size.

Images are compared as they are stored for the training. Photographs of aligned parts look alike, too: they differ by the
noise of the sensor at least, and from several others about as much. A copy differs from one image far less than from any other.
"""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anomap.data.decode import release
from anomap.data.files import shorten
from anomap.data.ragged import Ragged

if TYPE_CHECKING:  # it needs torch
    from anomap.data.imageset import ImageSet

log = logging.getLogger(__name__)

_SIDE = 8  # of the thumbnails that find candidates
_ROWS = 512  # images at a time
_PAIRS = 1 << 21  # of thumbnails at a time: some 60 MB
_CANDIDATES, _FEWEST = 4, 3
_GREATEST = (
    2.5  # grey levels of 255, on average over the pixels; JPEG of quality 15 changes solar cells by 2.0, of 50 by 0.8
)
_RATIO = 0.2  # of the difference to the next most similar image, and of what is usual among images


@dataclass(frozen=True)
class NearCopy:
    """A pair whose pixels are nearly the same."""

    image: int  # places in their sets
    other: int
    difference: float  # mean over the pixels, in grey levels of 255
    usual: float  # of an image from the most similar other one


def find_near_copies(images: NDArray[np.uint8], others: NDArray[np.uint8] | None = None) -> list[NearCopy]:
    """Which of `images` (N, C, H, W) are nearly the same as one of `others` (M, C, H, W); None: as one before it among them.

    Memory is bounded: whole images are only compared with the few that are most similar as thumbnails.
    """
    within, others = others is None, images if others is None else others
    if len(images) == 0 or len(others) < _FEWEST + within:
        return []
    known = _thumbnails(others)
    nearest, distances = _nearest(known if within else _thumbnails(images), known, _CANDIDATES + within)
    if within:
        nearest, distances = _but_themselves(nearest, distances)
    suspects = np.flatnonzero(distances[:, 0] < _GREATEST)
    if suspects.size == 0:
        return []
    usual = _usual(others, known)
    found = []
    for place in suspects:
        differences = np.array([_difference(images[place], others[other]) for other in nearest[place]])
        first, *rest = np.argsort(differences, kind="stable").tolist()
        original, least = others[nearest[place][first]], float(differences[first])
        # the original may be there twice itself: only what differs from it says how alike others are
        next_best = (
            float(differences[other])
            for other in rest
            if _difference(original, others[nearest[place][other]]) > _RATIO * usual
        )
        plain = images[place].std() < 1  # a blank image says nothing
        if within and nearest[place][first] > place:  # the pair is found from the other side
            continue
        if least < _GREATEST and least <= _RATIO * min(next(next_best, usual), usual) and not plain:
            found.append(NearCopy(int(place), int(nearest[place][first]), least, usual))
        release(images, others)
    return found


def warn_of_near_copies(test: "ImageSet", normal: "ImageSet") -> None:
    """Log one warning that names pairs of test images and normal images of the training; tiled photographs are not compared."""
    if isinstance(test.images, Ragged) or isinstance(normal.images, Ragged):
        return
    if found := find_near_copies(test.images, normal.images):
        pairs = shorten([f"{test.samples[pair.image].name} = {normal.samples[pair.other].name}" for pair in found])
        height, width = test.images.shape[2:]
        worst = max(pair.difference for pair in found)
        log.warning(
            "%d test image(s) look like images of the training, saved again: %s; compared as decoded, %d x %d pixels: these "
            "pairs differ by %.1f grey levels of 255 at most, other images by %.1f; results on them are too good: remove one "
            "of each",
            *(len(found), pairs, width, height, worst, found[0].usual),
        )


def warn_of_trained_copies(calibration: "ImageSet", train: "ImageSet") -> None:
    """Log one warning that names pairs of calibration and training images; tiled photographs are not compared."""
    if isinstance(calibration.images, Ragged) or isinstance(train.images, Ragged):
        return
    if found := find_near_copies(calibration.images, train.images):
        pairs = [f"{calibration.samples[pair.image].name} = {train.samples[pair.other].name}" for pair in found]
        log.warning(
            "%d of %d calibration images look like images that are trained on, saved again: %s; the threshold they set is too "
            "low, so its promise may not hold: remove one of each",
            *(len(found), len(calibration), shorten(pairs)),
        )


def _thumbnails(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, C, H, W) -> (N, D): means over a coarse grid, float32."""
    height, width = images.shape[2:]
    rows, columns = (np.linspace(0, side, min(_SIDE, side) + 1).astype(int)[:-1] for side in (height, width))
    areas = np.outer(np.diff([*rows, height]), np.diff([*columns, width])).astype(np.float32)
    parts = []
    for start in range(0, len(images), _ROWS):
        sums = np.add.reduceat(images[start : start + _ROWS].sum(1, dtype=np.uint32), rows, axis=1)
        means = np.add.reduceat(sums, columns, axis=2).astype(np.float32) / (areas * images.shape[1])
        parts.append(means.reshape(len(means), -1))
        release(images)
    return np.concatenate(parts)


def _but_themselves(
    nearest: NDArray[np.int64], distances: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Without the image itself, which is among its nearest, or has as many copies before it; one fewer of each."""
    own = nearest == np.arange(len(nearest))[:, None]
    own[~own.any(1), -1] = True
    shape = len(nearest), nearest.shape[1] - 1
    return nearest[~own].reshape(shape), distances[~own].reshape(shape)


def _nearest(
    thumbnails: NDArray[np.float32], known: NDArray[np.float32], count: int = _CANDIDATES
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each the places of the few most similar ones that are known, the first first, and root mean square differences."""
    count = min(count, len(known))
    squares = np.square(known).sum(1)
    places, distances = [], []
    at_once = max(1, _PAIRS // len(known))
    for start in range(0, len(thumbnails), at_once):
        part = thumbnails[start : start + at_once]
        apart = squares - 2 * part @ known.T + np.square(part).sum(1)[:, None]
        best = np.argpartition(apart, count - 1, axis=1)[:, :count]
        values = np.take_along_axis(apart, best, 1)
        order = np.argsort(values, axis=1, kind="stable")
        places.append(np.take_along_axis(best, order, 1))
        distances.append(np.sqrt(np.maximum(np.take_along_axis(values, order, 1), 0) / known.shape[1]))
    return np.concatenate(places), np.concatenate(distances)


def _usual(others: NDArray[np.uint8], known: NDArray[np.float32]) -> float:
    """The median over some of a set's images of the difference from their most similar other one."""
    some = np.linspace(0, len(others) - 1, min(100, len(others))).astype(int)
    nearest = [_nearest(known[[place]], np.delete(known, place, axis=0))[0][0] for place in some]
    candidates = [[other + (other >= place) for other in row] for place, row in zip(some, nearest, strict=True)]
    differences = [
        min(_difference(others[place], others[other]) for other in row)
        for place, row in zip(some, candidates, strict=True)
    ]
    release(others)
    return float(np.median(differences))


def _difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Mean absolute difference of two images."""
    return float(np.abs(one.astype(np.int16) - other).mean())
