"""Photographs of any size, as an inspection camera takes them: what is in front of it, its light, its noise, a spot.

Every length is in pixels, whatever the size: a larger photograph shows more of the same surface.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from drawn.board import BILL, MASK, SMALL, Part, Pen, grey, mount, placed, print_bare, traced

Plane = NDArray[np.floating]
Rng = np.random.Generator
Size = tuple[int, int]  # width, height

UNIT = 3  # pixels of a unit of the board's parts: a resistor is 33 x 18 pixels
FINER = 2  # the board is drawn this many times larger
EDGE = 24  # pixels of board beyond the picture on each side


def field(rng: Rng, size: Size, across: float, down: float | None = None) -> Plane:
    """Smooth noise of mean 0 and variance about 1 that changes over `across` pixels, (height, width)."""
    steps = across, across if down is None else down
    knots = [int(np.ceil(side / step)) + 3 for side, step in zip(size, steps, strict=True)]
    coarse = Image.fromarray(rng.standard_normal((knots[1], knots[0]), np.float32))
    x, y = rng.uniform(0.5, 1.5, 2)
    box = x, y, x + size[0] / steps[0], y + size[1] / steps[1]
    return np.asarray(coarse.resize(size, Image.Resampling.BICUBIC, box=box)) * 1.23  # what is lost between knots


def light(rng: Rng, size: Size, uneven: float) -> Plane:
    """What the lamp and the lens make of an even surface, about 1: a slope, darker corners, slow waves."""
    across, down = (np.linspace(-0.5, 0.5, side, dtype=np.float32) for side in size)
    slope, middle = rng.normal(0, uneven, 2), rng.normal(0, 0.08, 2)
    corner = np.float32(rng.uniform(0.5, 1.5) * uneven)
    rows = slope[1] * down - corner * (down - middle[1]) ** 2
    columns = slope[0] * across - corner * (across - middle[0]) ** 2
    waves = 0.012 * field(rng, size, max(size) / 3)
    return np.float32(rng.normal(1, 0.025)) * (
        1 + rows[:, None].astype(np.float32) + columns.astype(np.float32) + waves
    )


def smooth(rng: Rng, size: Size, seed: int) -> Plane:
    """A painted housing: grey levels (height, width) without noise; the paint is a little uneven, as orange peel."""
    del seed
    return 168 * light(rng, size, 0.13) + 0.9 * field(rng, size, 9) + 0.5 * field(rng, size, 31)


def brushed(rng: Rng, size: Size, seed: int) -> Plane:
    """Brushed metal: fine streaks of many lengths along the rows, and the lamp's broad reflection across them."""
    del seed
    streaks = 3.2 * field(rng, size, 160, 1.6) + 2.4 * field(rng, size, 55, 1.2) + 2.2 * field(rng, size, 600, 5)
    at, width = rng.uniform(0.25, 0.75), rng.uniform(0.18, 0.3)
    band = np.exp(-0.5 * ((np.linspace(0, 1, size[0], dtype=np.float32) - at) / width) ** 2)
    return (132 + 34 * band + streaks + 1.6 * field(rng, size, 4, 1.1)) * light(rng, size, 0.05)


@cache
def _panel(size: Size, seed: int) -> tuple[tuple[Part, ...], Image.Image]:
    """What all boards of a data set share: where parts belong, and the board without them, `FINER` times larger."""
    rng = np.random.default_rng([seed, *size])
    whole = np.asarray(size) + 2 * EDGE
    width, height = whole / UNIT
    often = max(1, round(width * height / 256**2 * 0.8))
    large = [kind for kind in BILL if kind not in SMALL]
    parts = placed(rng, [*large * often, *SMALL * (9 * often)], (width, height))
    canvas = Image.new("L", [int(side) * FINER for side in whole], grey(MASK))
    holes = rng.uniform(-0.5, 0.5, (60 * often, 2)) * (width, height)
    print_bare(Pen(canvas, finer=UNIT * FINER), parts, traced(rng, parts), holes)
    return tuple(parts), canvas


def board(rng: Rng, size: Size, seed: int) -> Plane:
    """A circuit board with its parts, always the same but for a few pixels: each lies, and is mounted, a little otherwise."""
    parts, bare = _panel(size, seed)
    canvas = bare.copy()
    askew = rng.normal(0, 1, (len(parts), 4)) * (0.3, 0.3, 0.8, 0.015)
    mounted = [
        replace(part, at=(part.at[0] + x, part.at[1] + y), turn=part.turn + turn, tone=tone)
        for part, (x, y, turn, tone) in zip(parts, askew, strict=True)
    ]
    mount(canvas, mounted, UNIT * FINER)
    angle, shift = np.deg2rad(rng.normal(0, 0.12)), rng.normal(0, 2.5, 2)
    c, s, (x, y) = FINER * np.cos(angle), FINER * np.sin(angle), np.asarray(size) / 2 + shift
    middle = np.asarray(canvas.size) / 2
    lies = c, s, middle[0] - c * x - s * y, -s, c, middle[1] + s * x - c * y
    seen = canvas.transform(size, Image.Transform.AFFINE, lies, Image.Resampling.BILINEAR)
    sharp = np.asarray(seen.filter(ImageFilter.GaussianBlur(0.8)), np.float32)
    return (sharp + 1.5 * field(rng, size, 3) + 1.5 * field(rng, size, 25)) * light(rng, size, 0.07)


FAMILIES: dict[str, Callable[[Rng, Size, int], Plane]] = {"smooth": smooth, "brushed": brushed, "board": board}


def exposed(rng: Rng, levels: Plane) -> NDArray[np.uint8]:
    """Grey levels as a sensor gives them: noise of the electronics, and of the light, which grows with it."""
    deviation = np.sqrt(1.0 + 0.022 * np.clip(levels, 0, 255))
    noisy = levels + deviation * rng.standard_normal(levels.shape, np.float32)
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def spoiled(rng: Rng, levels: Plane, diameter: float, contrast: float) -> tuple[Plane, NDArray[np.bool_]]:
    """Put one spot on a surface, dark or light: a pit, a grain, a splash. -> the surface, and the mask of the spot.

    Args:
        rng: of its place, outline and tone.
        levels: (height, width), grey levels.
        diameter: of the circle of the same area, where the spot is at least half as strong as in its middle.
        contrast: grey levels of its middle above or below what is there. The place is one where they do not clip.

    Raises:
        ValueError: there is no such place.
    """
    height, width = levels.shape
    reach = int(diameter * 0.9 + 4)
    cover = spot(rng, reach, diameter)
    for _ in range(10_000):
        y, x = rng.integers(reach, height - reach), rng.integers(reach, width - reach)
        window = np.s_[y - reach : y + reach + 1, x - reach : x + reach + 1]
        after = levels[window] + np.float32(contrast * rng.choice([-1, 1])) * cover
        if after[cover > 0.05].min() >= 6 and after[cover > 0.05].max() <= 249:
            break
    else:
        raise ValueError(f"no place for a spot of {diameter} pixels and {contrast} grey levels")
    levels, mask = levels.copy(), np.zeros(levels.shape, np.bool_)
    levels[window], mask[window] = after, cover >= 0.5
    return levels, mask


def spot(rng: Rng, reach: int, diameter: float) -> Plane:
    """How strong a spot is around its middle, 0..1, (2 reach + 1, same): an uneven oval with a soft edge."""
    down, across = np.mgrid[-reach : reach + 1, -reach : reach + 1] + rng.uniform(-0.5, 0.5, (2, 1, 1))
    turn, stretch = rng.uniform(0, np.pi), np.sqrt(rng.uniform(1, 1.5))
    u, v = across * np.cos(turn) + down * np.sin(turn), down * np.cos(turn) - across * np.sin(turn)
    angle, outline = np.arctan2(v, u), np.zeros_like(u)
    for waves in (2, 3, 5):
        outline += rng.normal(0, 0.12 / waves) * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    radius = np.hypot(u / stretch, v * stretch) / (1 + outline)
    soft = rng.uniform(0.25, 0.6) * min(diameter / 4, 3)
    shape = 1 / (1 + np.exp(np.clip((radius - diameter / 2) / soft, -30, 30)))
    return (shape / shape.max()).astype(np.float32)
