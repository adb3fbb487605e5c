"""The families by name, and their pictures one by one."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from drawn import board, fabric, metal, textile, wood
from drawn.camera import camera, changed
from drawn.fields import Plane, Rng

SMALLEST = 12  # pixels; a defect that changes fewer is drawn again
SEVERAL = (0.75, 0.17, 0.08)  # probability of one, two, three defects in an image
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Family:
    """A kind of surface and what may be wrong with it.

    Attributes:
        draw: (random numbers, seed of what the whole data set shares) -> a normal scene, which has a `surface`.
        defects: by name, scene -> the surface with the defect.
    """

    draw: Callable[[Rng, int], Any]
    defects: Mapping[str, Callable[[Any, Rng], Plane]]


FAMILIES = {
    "board": Family(board.draw, board.DEFECTS),
    "fabric": Family(fabric.draw, fabric.DEFECTS),
    "metal": Family(metal.draw, metal.DEFECTS),
    "specks": Family(textile.draw, textile.DEFECTS),
    "wood": Family(wood.draw, wood.DEFECTS),
}


def stream(seed: int, *place: str | int) -> Rng:
    """The random numbers of one image: they depend on the seed and on its place in the data set, not on other images."""
    return np.random.default_rng([seed, *(zlib.crc32(str(part).encode()) for part in place)])


def normal(family: Family, rng: Rng, seed: int) -> Pixels:
    """A picture without defect, uint8 (256, 256)."""
    scene = family.draw(rng, seed)
    return camera(rng).picture(scene.surface)


def abnormal(family: Family, defect: str, rng: Rng, seed: int) -> tuple[Pixels, Pixels, NDArray[np.bool_]]:
    """One scene before and after something happened to it: two pictures uint8 (256, 256) and the mask of what changed.

    Light, lens and noise are the same in both, so outside the mask the two are equal. What changes too little to be seen
    is left as it was, and a scene where nothing can be seen is drawn again.
    """
    while True:
        scene = family.draw(rng, seed)
        shot = camera(rng)
        surface = scene.surface
        for _ in range(rng.choice(len(SEVERAL), p=SEVERAL) + 1):
            surface = surface + family.defects[defect](scene, rng) - scene.surface
        before, after = shot.picture(scene.surface), shot.picture(surface)
        mask = changed(before, after)
        if mask.sum() >= SMALLEST:
            return before, np.where(mask, after, before), mask
