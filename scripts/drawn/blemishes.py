"""Defects that any surface may have: a surface goes in, a blemished copy comes out."""

import numpy as np

from drawn.fields import Plane, Rng, blob, log_uniform, noise, place, smoothstep, stroke, wander


def sign(rng: Rng, dark: float = 0.5) -> float:
    """-1 (darker) with probability `dark`, otherwise 1."""
    return -1.0 if rng.random() < dark else 1.0


def scratch(surface: Plane, rng: Rng, strength: tuple[float, float] = (0.07, 0.25), dark: float = 0.5) -> Plane:
    """A nearly straight line of 1 to 2 pixels that fades at its ends."""
    points = wander(rng, place(rng, 50), rng.uniform(0, 2 * np.pi), rng.uniform(40, 130), 0.012)
    along = np.linspace(0, 1, len(points))
    cover = stroke(points, rng.uniform(1, 2) * np.sqrt(np.sin(np.pi * along)).clip(0.35))
    return surface + sign(rng, dark) * log_uniform(rng, *strength) * cover * (1 + 0.25 * noise(rng, 3))


def hair(surface: Plane, rng: Rng, tone: float | None = None) -> Plane:
    """A fibre of 1 to 2 pixels that curls on top of the surface, with its shadow."""
    points = wander(rng, place(rng, 50), rng.uniform(0, 2 * np.pi), rng.uniform(45, 120), 0.07)
    width = rng.uniform(1.0, 1.9)
    shaded = surface * (1 - 0.12 * stroke(points + 1.2, width + 0.6))
    cover = rng.uniform(0.5, 0.9) * stroke(points, width)
    return shaded * (1 - cover) + cover * (rng.choice([0.15, 0.9]) if tone is None else tone)


def crack(surface: Plane, rng: Rng, heading: float, depth: tuple[float, float] = (0.35, 0.8)) -> Plane:
    """A crooked dark line of 1 to 3 pixels, wider in the middle, sometimes with a branch."""
    points = wander(rng, place(rng, 45), heading + rng.choice([0, np.pi]), rng.uniform(35, 110), 0.0)
    jagged = np.cumsum(rng.normal(0, 0.35, (len(points), 2)) * (rng.random((len(points), 1)) < 0.35), axis=0)
    points = points + jagged
    along = np.linspace(0, 1, len(points))
    widest = rng.uniform(1.2, 3.0)
    cover = stroke(points, widest * np.sin(np.pi * along).clip(0.3))
    if rng.random() < 0.4:
        fork = points[len(points) // 2]
        branch = wander(rng, fork, heading + rng.choice([-0.6, 0.6]), rng.uniform(12, 30), 0.08)
        cover = np.maximum(cover, stroke(branch, np.linspace(widest * 0.8, 0.7, len(branch))))
    return surface * (1 - log_uniform(rng, *depth) * cover)


def specks(
    surface: Plane,
    rng: Rng,
    size: tuple[float, float] = (4, 10),
    strength: tuple[float, float] = (0.12, 0.35),
    dark: float = 0.6,
) -> Plane:
    """One to five grains of dirt of one kind; `size` is their diameter in pixels."""
    tone = sign(rng, dark)
    for _ in range(rng.choice([1, 1, 2, 3, 5])):
        cover = blob(rng, place(rng), log_uniform(rng, *size) / 2, 1.4, ragged=0.18)
        surface = surface + tone * log_uniform(rng, *strength) * cover * (1 + 0.15 * noise(rng, 1.5))
    return surface


def stain(
    surface: Plane,
    rng: Rng,
    strength: tuple[float, float] = (0.09, 0.3),
    reach: tuple[float, float] = (12, 32),
    dark: float = 0.8,
) -> Plane:
    """A spill with a soft outline, darker along its edge as it dries; the texture shows through."""
    cover = blob(rng, place(rng, 40), log_uniform(rng, *reach), rng.uniform(5, 10), ragged=0.3)
    rim = 4 * cover * (1 - cover)
    depth = cover * (1 + 0.3 * noise(rng, 8)) + rng.uniform(0, 0.7) * rim
    return surface * (1 + sign(rng, dark) * log_uniform(rng, *strength) * np.clip(depth, 0, None))


def dent(surface: Plane, rng: Rng, strength: tuple[float, float] = (0.06, 0.25)) -> Plane:
    """A shallow hollow that only the light tells: bright on one side, dark on the other."""
    centre, reach = place(rng, 30), rng.uniform(5, 13)
    hollow = blob(rng, centre, reach, 1.3 * reach, ragged=0.1)
    fall_y, fall_x = np.gradient(hollow)
    towards = rng.uniform(0, 2 * np.pi)
    slope = (fall_y * np.sin(towards) + fall_x * np.cos(towards)) * reach
    return surface * (1 + log_uniform(rng, *strength) * slope)


def patched(surface: Plane, other: Plane, rng: Rng, reach: tuple[float, float] = (14, 32)) -> Plane:
    """Another texture in a patch with a narrow edge, at the brightness of what it replaces."""
    cover = blob(rng, place(rng, 40), log_uniform(rng, *reach), rng.uniform(3, 8), ragged=0.2)
    weight = cover.sum()
    level = (surface * cover).sum() / weight - (other * cover).sum() / weight
    return surface * (1 - cover) + (other + level) * cover


def faded(inside: Plane, rng: Rng) -> Plane:
    """A share in [0, 1] that is lost of what lies in a region: all of it, or one side."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.nonzero(inside > 0.5)
    if rng.random() < 0.5 or not len(y):
        return inside
    rows, columns = np.indices(inside.shape)
    far = (rows - y.mean()) * np.sin(angle) + (columns - x.mean()) * np.cos(angle)
    return inside * smoothstep(far / 4 + 0.5)
