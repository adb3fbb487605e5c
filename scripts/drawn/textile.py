"""A coarse textile of mottled yarn."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from drawn import blemishes
from drawn.cloth import BASKET, PLAIN, TWILL, woven, yarns
from drawn.fields import Plane, Rng, noise, turned


@dataclass(frozen=True)
class Textile:
    """A piece of textile.

    Attributes:
        surface: (256, 256), reflectances.
        at: coordinates (u, v) along and across the threads, in pixels.
        pitch: distance of two threads, in pixels.
        yarn: brightness of each thread.
        mottle: (256, 256), how the yarn's colour varies.
    """

    surface: Plane = field(repr=False)
    at: tuple[Plane, Plane] = field(repr=False)
    pitch: float
    yarn: NDArray[np.float64] = field(repr=False)
    mottle: Plane = field(repr=False)


def draw(rng: Rng, seed: int) -> Textile:
    """A piece of the textile `seed`, as it happens to be woven and laid."""
    count = np.random.default_rng(seed).uniform(5.8, 7.5)
    angle = rng.normal(0, 0.05)
    u, v = turned(angle, rng.normal(1, 0.02), rng.uniform(0, 1500, 2))
    at = u + 1.6 * noise(rng, 40), v + 1.6 * noise(rng, 40)
    pitch, yarn = count * rng.normal(1, 0.02), yarns(rng, 0.07)
    fibres = noise(rng, 5, 0.7, angle) + noise(rng, 0.7, 5, angle)
    mottle = rng.normal(0, 0.015) + 0.022 * fibres + 0.012 * noise(rng, 9) + 0.02 * noise(rng, 45)
    return Textile(cloth(at, pitch, PLAIN, yarn, mottle), at, pitch, yarn, mottle)


def cloth(
    at: tuple[Plane, Plane], pitch: float, pattern: NDArray[np.bool_], yarn: NDArray[np.float64], mottle: Plane
) -> Plane:
    """The surface of a textile."""
    return 0.3 + 0.36 * woven(*at, pitch, pattern, yarn) + mottle


def specks(textile: Textile, rng: Rng) -> Plane:
    """Specks of about 10 pixels."""
    return blemishes.specks(textile.surface, rng, (8, 12), (0.1, 0.28))


def weave(textile: Textile, rng: Rng) -> Plane:
    """A patch with another weave, or with thicker or thinner threads."""
    pitch, pattern = textile.pitch, PLAIN
    kind = rng.integers(3)
    if kind == 0:
        pitch *= rng.choice([0.75, 1.35])
    else:
        pattern = TWILL if kind == 1 else BASKET
    u, v = textile.at
    half = textile.pitch / 2  # so that no thread runs on through the patch
    other = cloth((u + half, v + half), pitch, pattern, textile.yarn, textile.mottle)
    return blemishes.patched(textile.surface, other, rng, (18, 45))


DEFECTS = {"specks": specks, "weave": weave}
