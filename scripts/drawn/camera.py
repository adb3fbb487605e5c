"""A surface as a camera sees it: uneven light, a lens, noise. And what two pictures of it differ in."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from drawn.fields import SIDE, Plane, Rng, grid, noise

VISIBLE = 4  # grey levels of 255 by which a pixel must differ to count as changed
HOLE = 150  # pixels: smaller gaps in a changed region belong to it


@dataclass(frozen=True)
class Camera:
    """One shot: the same camera gives the same picture of the same surface.

    Attributes:
        light: (256, 256), what the surface is multiplied by.
        blur: of the lens, in pixels.
        grain: (256, 256), the sensor's noise.
    """

    light: Plane
    blur: float
    grain: Plane

    def picture(self, surface: Plane) -> NDArray[np.uint8]:
        """A surface (256, 256) of reflectances in [0, 1] -> grey levels."""
        seen = ndimage.gaussian_filter(surface, self.blur, mode="nearest") * self.light + self.grain
        return (np.clip(seen, 0, 1) * 255).round().astype(np.uint8)


def camera(rng: Rng, uneven: float = 0.09, noisy: float = 0.012) -> Camera:
    """A camera as it happens to stand and to be lit.

    Args:
        rng: where its numbers come from.
        uneven: standard deviation of the light's change from one border to the other.
        noisy: standard deviation of the sensor's noise.
    """
    y, x = grid()
    slope = rng.normal(0, uneven, 2)
    centre = rng.normal(0, 40, 2)
    corner = rng.uniform(0, 0.12) * ((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (SIDE**2 / 2)
    light = rng.normal(1, 0.04) * (1 + (slope[0] * y + slope[1] * x) / SIDE - corner + 0.012 * noise(rng, 60))
    return Camera(light, rng.uniform(0.45, 0.85), rng.uniform(0.6, 1.2) * noisy * rng.normal(size=(SIDE, SIDE)))


def changed(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where two pictures by one camera differ visibly, (256, 256); small gaps closed."""
    differs = np.abs(before.astype(int) - after.astype(int)) >= VISIBLE
    reach = np.hypot(*np.mgrid[-2:3, -2:3]) <= 2
    padded = np.pad(differs, 2)  # closing shrinks what touches the border
    closed: NDArray[np.bool_] = np.asarray(ndimage.binary_closing(padded, reach), bool)
    region = closed[2:-2, 2:-2] | differs
    region |= _small_parts(~region, HOLE)
    return region & ~_small_parts(region, 4)  # single pixels at a soft edge are no defect


def _small_parts(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """The connected parts (by their sides or corners) of fewer than `size` pixels."""
    labels = regions(mask)
    small = np.bincount(labels.ravel()) < size
    small[0] = False  # what is outside the mask
    return small[labels]


def regions(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The number of the connected part that each pixel belongs to, from 1; 0 outside the mask."""
    labels = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, np.ones((3, 3)), output=labels)
    return labels
