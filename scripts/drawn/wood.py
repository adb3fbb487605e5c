"""A planed board: growth rings cut lengthwise, fibres and pores."""

from dataclasses import dataclass, field

import numpy as np

from drawn import blemishes
from drawn.fields import SIDE, Plane, Rng, noise, profile, smoothstep, turned


@dataclass(frozen=True)
class Wood:
    """A board.

    Attributes:
        surface: (256, 256), reflectances.
        angle: of the grain, in radians from the x axis.
        ring: mean distance of two growth rings, in pixels.
    """

    surface: Plane = field(repr=False)
    angle: float
    ring: float


def draw(rng: Rng, seed: int) -> Wood:
    """A board of the tree `seed`, as it happens to be cut and to lie."""
    years = np.random.default_rng(seed).uniform(12, 20)
    angle, ring = rng.normal(0, 0.05), years * rng.normal(1, 0.1)
    return Wood(grain(rng, angle, ring), angle, ring)


def grain(rng: Rng, angle: float, ring: float) -> Plane:
    """The surface of a board with its grain along `angle`."""
    u, v = turned(angle)
    middle, tip, slope = rng.uniform(-1.2, 1.2) * SIDE, rng.uniform(-2, 2) * SIDE, rng.uniform(0.03, 0.12)
    waves = 7 * noise(rng, 70, 30, angle) + 1.2 * noise(rng, 20, 9, angle)
    radius = np.hypot(v - middle + waves, slope * (u - tip) + 8)  # from the pith, which the cut runs beside
    years = (radius + 3.5 * profile(rng, radius, 1.7 * ring)) / ring
    part = years - np.floor(years)  # of a year: slow darkening towards late wood, then a sudden end
    late = part**2.5 * smoothstep((1 - part) * ring / 2)
    late *= 1 + 0.35 * profile(rng, np.floor(years), 1)
    fibres = noise(rng, 45, 0.7, angle) + 0.6 * noise(rng, 14, 0.5, angle)
    pores = smoothstep((noise(rng, 5, 0.55, angle) + 0.5 * noise(rng, 30, 8, angle) - 2.0) / 0.7)
    tone = 0.62 + rng.normal(0, 0.025) + 0.02 * noise(rng, 80, 40, angle)
    return tone - 0.15 * late + 0.018 * fibres - 0.12 * pores


def scratch(wood: Wood, rng: Rng) -> Plane:
    """A scratch in any direction."""
    return blemishes.scratch(wood.surface, rng, (0.05, 0.16))


def crack(wood: Wood, rng: Rng) -> Plane:
    """A split along the grain, hard to tell from late wood."""
    return blemishes.crack(wood.surface, rng, wood.angle + rng.normal(0, 0.12), (0.25, 0.6))


def specks(wood: Wood, rng: Rng) -> Plane:
    """Worm holes and drops of resin."""
    return blemishes.specks(wood.surface, rng, strength=(0.1, 0.3), dark=0.8)


def stain(wood: Wood, rng: Rng) -> Plane:
    """A spill."""
    return blemishes.stain(wood.surface, rng, (0.06, 0.2))


def patch(wood: Wood, rng: Rng) -> Plane:
    """A repair: a piece let in whose grain runs another way."""
    turn = rng.choice([-1, 1]) * rng.uniform(0.2, 0.9)
    return blemishes.patched(wood.surface, grain(rng, wood.angle + turn, wood.ring), rng)


DEFECTS = {"crack": crack, "patch": patch, "scratch": scratch, "specks": specks, "stain": stain}
