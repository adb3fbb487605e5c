"""A sheet of brushed metal: fine lines of all lengths in one direction, and the sheen they give."""

from dataclasses import dataclass, field

import numpy as np

from drawn import blemishes
from drawn.fields import Plane, Rng, noise, profile, turned


@dataclass(frozen=True)
class Metal:
    """A sheet.

    Attributes:
        surface: (256, 256), reflectances.
        angle: of the brushing, in radians from the x axis.
        coarse: how long and wide its lines are, as a multiple of the usual.
    """

    surface: Plane = field(repr=False)
    angle: float
    coarse: float


def draw(rng: Rng, seed: int) -> Metal:
    """A sheet from the brush `seed`, as it happens to lie."""
    coarse = np.random.default_rng(seed).uniform(0.85, 1.3)
    angle = rng.normal(0, 0.06)
    return Metal(brushed(rng, angle, coarse), angle, coarse)


def brushed(rng: Rng, angle: float, coarse: float) -> Plane:
    """The surface of a sheet that is brushed along `angle`."""
    _, v = turned(angle)
    sizes = (0.6, 60, 0.45), (0.65, 18, 0.4), (0.4, 160, 1.3)  # weight, length and width of its lines
    lines = sum(share * noise(rng, long * coarse, wide * coarse, angle) for share, long, wide in sizes)
    deep = np.clip(noise(rng, 50, 0.8, angle) - 2.0, 0, None) * rng.choice([-1, 1])
    sheen = np.exp(-(((v - rng.uniform(-120, 120)) / rng.uniform(50, 110)) ** 2))
    tone = 0.5 + rng.normal(0, 0.02) + 0.09 * sheen + 0.012 * profile(rng, v, 25)
    grit = 0.012 * noise(rng, 1.0) + 0.012 * noise(rng, 4) + 0.02 * np.clip(noise(rng, 2.5) - 2.2, 0, None)
    return tone + 0.055 * lines + 0.08 * deep + grit


def scratch(metal: Metal, rng: Rng) -> Plane:
    """A scratch in any direction, mostly bright."""
    return blemishes.scratch(metal.surface, rng, (0.05, 0.2), dark=0.3)


def dent(metal: Metal, rng: Rng) -> Plane:
    """A shallow hollow."""
    return blemishes.dent(metal.surface, rng)


def specks(metal: Metal, rng: Rng) -> Plane:
    """Pits and grains of dirt."""
    return blemishes.specks(metal.surface, rng, strength=(0.07, 0.22), dark=0.75)


def stain(metal: Metal, rng: Rng) -> Plane:
    """A drop that dried."""
    return blemishes.stain(metal.surface, rng, (0.05, 0.18), (10, 28))


def rebrushed(metal: Metal, rng: Rng) -> Plane:
    """A spot that was ground in another direction."""
    turn = rng.choice([-1, 1]) * rng.uniform(0.1, 0.5)
    return blemishes.patched(metal.surface, brushed(rng, metal.angle + turn, metal.coarse), rng)


DEFECTS = {"dent": dent, "rebrushed": rebrushed, "scratch": scratch, "specks": specks, "stain": stain}
