"""Printed cotton: a plain weave with rows of flowers, printed a little unevenly and never quite straight."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from drawn import blemishes
from drawn.cloth import PLAIN, woven, yarns
from drawn.fields import Plane, Rng, noise, smoothstep, turned

CELLS = 16  # flowers in a row, more than a picture shows


@dataclass(frozen=True)
class Fabric:
    """A piece of cloth.

    Attributes:
        surface: (256, 256), reflectances.
        cloth: (256, 256), the same before it was printed.
        ink: (256, 256), how much light a full print lets through.
        print_at: coordinates (u, v) of the print, in pixels.
        pitch: distance of two flowers, in pixels.
        flowers: (4, CELLS, CELLS): petals, turn, and shift in u and in v of each flower.
    """

    surface: Plane = field(repr=False)
    cloth: Plane = field(repr=False)
    ink: Plane = field(repr=False)
    print_at: tuple[Plane, Plane] = field(repr=False)
    pitch: float
    flowers: NDArray[np.float64] = field(repr=False)


def draw(rng: Rng, seed: int) -> Fabric:
    """A piece of cloth with the print `seed`, as it happens to be woven, printed and laid."""
    design = np.random.default_rng(seed)
    pitch, petals, turns = design.uniform(40, 48), design.integers(4, 7), design.uniform(0.3, 1, 2)
    angle, scale = rng.normal(0, 0.05), rng.normal(1, 0.02)
    u, v = turned(angle, scale, rng.uniform(0, 2000, 2))
    u, v = u + 1.3 * noise(rng, 45), v + 1.3 * noise(rng, 45)  # cloth is soft
    threads = woven(u, v, rng.normal(4.2, 0.05), PLAIN, yarns(rng, 0.06))
    slubs = noise(rng, 14, 0.9, angle) + noise(rng, 0.9, 14, angle)
    cloth = 0.48 + rng.normal(0, 0.015) + 0.3 * threads + 0.022 * slubs + 0.015 * noise(rng, 30)
    ink = 0.55 + rng.normal(0, 0.02) + 0.03 * noise(rng, 25) + 0.05 * noise(rng, 1.2)
    flowers = np.zeros((4, CELLS, CELLS))
    flowers[0], flowers[1] = petals, np.add.outer(turns[0] * np.arange(CELLS), turns[1] * np.arange(CELLS))
    print_at = (u + 0.8 * noise(rng, 60), v + 0.8 * noise(rng, 60))
    bare = Fabric(cloth, cloth, ink, print_at, pitch, flowers)
    return replace(bare, surface=printed(bare, pattern(bare)))


def cells(fabric: Fabric) -> tuple[NDArray[np.int64], NDArray[np.int64], Plane, Plane]:
    """Row and column of the flower that each pixel belongs to, and where in its cell the pixel lies, in pixels."""
    u, v = fabric.print_at
    row = np.floor(v / fabric.pitch).astype(int)
    u = u + fabric.pitch / 2 * (row % 2)  # every other row is set off
    column = np.floor(u / fabric.pitch).astype(int)
    return row % CELLS, column % CELLS, u - (column + 0.5) * fabric.pitch, v - (row + 0.5) * fabric.pitch


def pattern(fabric: Fabric) -> Plane:
    """How much ink the print lays down, (256, 256) in [0, 1]."""
    row, column, u, v = cells(fabric)
    petals, turn, shift_u, shift_v = fabric.flowers[:, row, column]
    radius, angle = np.hypot(u - shift_u, v - shift_v), np.arctan2(v - shift_v, u - shift_u) + turn
    outline = 10.5 * (1 + 0.34 * np.cos(petals * angle))
    flower = smoothstep((outline - radius) / 1.4 + 0.5) * smoothstep((np.abs(radius - 4.6) - 1.0) / 1.2 + 0.5)
    beside, below = np.abs(u) - fabric.pitch / 2, np.abs(v) - fabric.pitch / 2
    large = np.hypot(np.minimum(np.abs(u), np.abs(beside)), below)  # distance to the dots between two rows
    dots = smoothstep((2.8 - large) / 1.2 + 0.5) + smoothstep((2.0 - np.hypot(beside, v)) / 1.2 + 0.5)
    return np.clip(flower + dots, 0, 1)


def printed(fabric: Fabric, amount: Plane) -> Plane:
    """The cloth under an amount of ink in [0, 1]."""
    return fabric.cloth * (1 - amount * (1 - fabric.ink))


def _whole_flower(fabric: Fabric, rng: Rng) -> tuple[int, int]:
    """Row and column of a flower that lies in the picture with all its petals."""
    row, column, u, v = cells(fabric)
    centre = np.hypot(u, v) < 1.5
    centre[:16], centre[-16:], centre[:, :16], centre[:, -16:] = False, False, False, False
    found = np.argwhere(centre)
    y, x = found[rng.integers(len(found))]
    return int(row[y, x]), int(column[y, x])


def missing(fabric: Fabric, rng: Rng) -> Plane:
    """A flower that was not printed, or in part."""
    row, column, u, v = cells(fabric)
    which = _whole_flower(fabric, rng)
    here = ((row == which[0]) & (column == which[1]) & (np.hypot(u, v) < 17)).astype(np.float64)
    return printed(fabric, pattern(fabric) * (1 - blemishes.faded(here, rng)))


def misprint(fabric: Fabric, rng: Rng) -> Plane:
    """A flower of another kind, or in the wrong place."""
    flowers = fabric.flowers.copy()
    which = (slice(None), *_whole_flower(fabric, rng))
    direction = rng.uniform(0, 2 * np.pi)
    step = rng.uniform(2.5, 6)
    wrong = rng.integers(2)
    change = (
        [rng.choice([-2, -1, 1, 2]), 0, 0, 0] if wrong else [0, 0, step * np.cos(direction), step * np.sin(direction)]
    )
    flowers[which] += change
    return printed(fabric, pattern(replace(fabric, flowers=flowers)))


def hair(fabric: Fabric, rng: Rng) -> Plane:
    """A loose thread."""
    return blemishes.hair(fabric.surface, rng)


def specks(fabric: Fabric, rng: Rng) -> Plane:
    """Drops of ink and bits of fluff."""
    return blemishes.specks(fabric.surface, rng, strength=(0.14, 0.35))


def stain(fabric: Fabric, rng: Rng) -> Plane:
    """A spill."""
    return blemishes.stain(fabric.surface, rng, (0.09, 0.28))


DEFECTS = {"hair": hair, "misprint": misprint, "missing": missing, "specks": specks, "stain": stain}
