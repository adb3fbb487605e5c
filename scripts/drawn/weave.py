"""A weave with grain, uneven dye and light: the first family, kept bit for bit since published numbers depend on it.

Four defects: scratch, stain, hole, and a weave pulled out of line.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIDE = 256
Plane = NDArray[np.float64]


def _grid() -> tuple[Plane, Plane]:
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64)
    return y, x


def normal(rng: np.random.Generator, displacement: tuple[Plane, Plane] | None = None) -> Plane:
    """A weave with grain, uneven dye and light: (SIDE, SIDE) in [0, 1]."""
    y, x = _grid()
    if displacement is not None:
        y, x = y + displacement[0], x + displacement[1]
    angle, period = rng.normal(0, 0.03), rng.normal(9, 0.3)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    phase = rng.uniform(0, 2 * np.pi, 2)
    weave = np.sin(2 * np.pi * u / period + phase[0]) * np.sin(2 * np.pi * v / period + phase[1])
    grain = ndimage.gaussian_filter(rng.normal(0, 1, (SIDE, SIDE)), 0.7)
    dye = ndimage.gaussian_filter(rng.normal(0, 1, (SIDE, SIDE)), 24, mode="wrap")
    light = (rng.normal(0, 0.04) * (x - SIDE / 2) + rng.normal(0, 0.04) * (y - SIDE / 2)) / SIDE
    return np.clip(rng.normal(0.55, 0.02) + 0.16 * weave + 0.05 * grain + 0.04 * dye / dye.std() + light, 0, 1)


def scratch(rng: np.random.Generator) -> tuple[Plane, NDArray[np.bool_]]:
    """A thin bright or dark curve."""
    steps = rng.integers(60, 160)
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.06, steps))
    start = rng.uniform(0.25 * SIDE, 0.75 * SIDE, 2)
    points = start[:, None] + np.cumsum(np.stack([np.sin(heading), np.cos(heading)]), axis=1)
    canvas = np.ones((SIDE, SIDE), bool)
    inside = ((points >= 0) & (points < SIDE)).all(0)
    canvas[tuple(points[:, inside].astype(int))] = False
    distance = np.asarray(ndimage.distance_transform_edt(canvas))
    width = rng.uniform(1.0, 2.2)
    strength = rng.choice([-1, 1]) * rng.uniform(0.2, 0.4)
    image = normal(rng) + strength * np.exp(-((distance / width) ** 2))
    return np.clip(image, 0, 1), distance <= width


def stain(rng: np.random.Generator) -> tuple[Plane, NDArray[np.bool_]]:
    """A soft dark patch of irregular outline."""
    field = ndimage.gaussian_filter(rng.normal(0, 1, (SIDE, SIDE)), 9)
    y, x = _grid()
    centre = rng.uniform(0.25 * SIDE, 0.75 * SIDE, 2)
    reach = rng.uniform(14, 30)
    shape = 1 - np.hypot(y - centre[0], x - centre[1]) / reach + 0.25 * field / field.std()
    cover = np.clip(shape * 2.5, 0, 1)
    return np.clip(normal(rng) * (1 - rng.uniform(0.25, 0.45) * cover), 0, 1), cover > 0.25


def hole(rng: np.random.Generator) -> tuple[Plane, NDArray[np.bool_]]:
    """A dark ellipse with a bright rim."""
    y, x = _grid()
    centre, radii = rng.uniform(0.2 * SIDE, 0.8 * SIDE, 2), rng.uniform(5, 13, 2)
    distance = np.hypot((y - centre[0]) / radii[0], (x - centre[1]) / radii[1])
    image = np.where(distance < 1, 0.12 + 0.03 * rng.normal(0, 1, (SIDE, SIDE)), normal(rng))
    image = image + 0.25 * np.exp(-(((distance - 1.1) / 0.12) ** 2))
    return np.clip(image, 0, 1), distance < 1.25


def pulled(rng: np.random.Generator) -> tuple[Plane, NDArray[np.bool_]]:
    """The weave pulled sideways: its brightness is right, its structure is not."""
    y, x = _grid()
    centre, reach = rng.uniform(0.25 * SIDE, 0.75 * SIDE, 2), rng.uniform(14, 24)
    bump = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * reach**2 / 4))
    direction = rng.uniform(0, 2 * np.pi)
    pull = rng.uniform(9, 14)
    return normal(rng, (pull * np.sin(direction) * bump, pull * np.cos(direction) * bump)), bump > 0.3


DEFECTS: dict[str, Callable[[np.random.Generator], tuple[Plane, NDArray[np.bool_]]]] = {
    "scratch": scratch,
    "stain": stain,
    "hole": hole,
    "pulled": pulled,
}


def images(train: int, test: int, each: int, seed: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """The files of the data set and what is in them; one stream of random numbers draws them all, in this order."""
    rng = np.random.default_rng(seed)
    for split, count in (("train/good", train), ("test/good", test)):
        for number in range(count):
            yield f"{split}/{number:03d}.png", grey_levels(normal(rng))
    for name, defect in DEFECTS.items():
        for number in range(each):
            image, mask = defect(rng)
            yield f"test/{name}/{number:03d}.png", grey_levels(image)
            yield f"ground_truth/{name}/{number:03d}_mask.png", grey_levels(mask)


def grey_levels(plane: NDArray) -> NDArray[np.uint8]:
    """[0, 1] or bool -> 0 to 255."""
    return (plane.astype(np.float64) * 255).round().astype(np.uint8)
