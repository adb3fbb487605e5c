"""What every surface is drawn from: random fields, turned coordinates, soft shapes and strokes, all (256, 256)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import fft

SIDE = 256
FINER = 4  # strokes are drawn this many times larger and averaged, so that a line of one pixel has no steps
Plane = NDArray[np.float64]
Rng = np.random.Generator


def grid() -> tuple[Plane, Plane]:
    """The rows and the columns of all pixels, seen from the centre."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] - (SIDE - 1) / 2
    return y, x


def turned(angle: float, scale: float = 1.0, shift: Sequence[float] | NDArray = (0.0, 0.0)) -> tuple[Plane, Plane]:
    """Coordinates (u, v) of all pixels: u runs along `angle` (radians from the x axis), v across it."""
    y, x = grid()
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return u / scale + shift[0], v / scale + shift[1]


def noise(rng: Rng, along: float, across: float | None = None, angle: float = 0.0) -> Plane:
    """A Gaussian random field of mean 0 and variance 1.

    Args:
        rng: where its numbers come from.
        along: length of its correlation in the direction `angle`, in pixels.
        across: the same at right angles; None = `along`.
        angle: in radians from the x axis.
    """
    across = along if across is None else across
    ky, kx = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)
    ku, kv = along * (kx * np.cos(angle) + ky * np.sin(angle)), across * (ky * np.cos(angle) - kx * np.sin(angle))
    real, imaginary = rng.standard_normal((2, *ku.shape), np.float32)
    spectrum = (real + 1j * imaginary) * np.exp(-2 * np.pi**2 * (ku**2 + kv**2)).astype(np.float32)
    field = np.asarray(fft.irfft2(spectrum, s=(SIDE, SIDE)), np.float64)
    return (field - field.mean()) / field.std()


def profile(rng: Rng, at: Plane, length: float) -> Plane:
    """A smooth random function of one coordinate, variance about 1, that changes over `length` pixels."""
    first, last = np.floor(at.min() / length), np.ceil(at.max() / length)
    knots = np.arange(first - 1, last + 2)
    return np.interp(at / length, knots, rng.normal(size=len(knots)))


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """As many small values as large ones, on a logarithmic scale."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def place(rng: Rng, margin: float = 20) -> NDArray[np.float64]:
    """A point (y, x) in pixels seen from the centre, at least `margin` from the border."""
    return rng.uniform(margin - SIDE / 2, SIDE / 2 - margin, 2)


def smoothstep(x: Plane) -> Plane:
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(x, 0, 1)
    return t * t * (3 - 2 * t)


def blob(rng: Rng, centre: Sequence[float] | NDArray, reach: float, soft: float, ragged: float = 0.25) -> Plane:
    """A patch of irregular outline: 1 inside, 0 outside.

    Args:
        rng: of its outline.
        centre: (y, x) in pixels seen from the centre of the image.
        reach: its mean radius in pixels.
        soft: width of its edge in pixels.
        ragged: how far the outline departs from an ellipse, as a share of the radius.
    """
    y, x = grid()
    dy, dx = y - centre[0], x - centre[1]
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(1, 1.5)
    u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    radius = np.hypot(u / stretch, v * stretch)
    return smoothstep((reach - radius + ragged * reach * noise(rng, max(reach / 2, 1.0))) / soft + 0.5)


def wander(rng: Rng, start: Sequence[float] | NDArray, heading: float, length: float, bend: float) -> NDArray:
    """Points (N, 2) as (y, x), one pixel apart, of a line that starts at `start`.

    Args:
        rng: of its turns.
        start: (y, x) seen from the centre of the image.
        heading: its direction at the start, in radians from the x axis.
        length: in pixels.
        bend: standard deviation of its turn at each pixel, in radians.
    """
    headings = heading + np.cumsum(rng.normal(0, bend, int(length)))
    return np.asarray(start) + np.cumsum(np.stack([np.sin(headings), np.cos(headings)], axis=1), axis=0)


def stroke(points: NDArray, width: float | NDArray) -> Plane:
    """How much of each pixel a line through (N, 2) points covers, in [0, 1].

    Args:
        points: (y, x) seen from the centre of the image.
        width: in pixels, one or N.
    """
    canvas = Image.new("L", (SIDE * FINER, SIDE * FINER))
    pen = ImageDraw.Draw(canvas)
    corners = (points[:, ::-1] + SIDE / 2) * FINER  # (x, y), as Pillow has them
    radii = np.broadcast_to(np.asarray(width) * FINER / 2, len(points))
    for (x, y), r in zip(corners, radii, strict=True):
        pen.ellipse((x - r, y - r, x + r, y + r), fill=255)
    return np.asarray(canvas.reduce(FINER), np.float64) / 255
