"""Damage that no training sees: five kinds whose shapes and fills are in none of the presets, for an estimate on normals.

`damage("spot", size=0.04, strength=CLEAR)` is a `HardAugmentation` that puts one of them on every image. Sizes are
shares of the image's shorter side. A spot and a scratch look somewhat like blobs and cracks that the preset `hard` draws,
by other code; a warp, a smear and a foreign pattern do not.
"""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from anomap.augmentation.fills import Donors, Fill
from anomap.augmentation.hard import HardAugmentation
from anomap.augmentation.random import Draw, between, sign
from anomap.augmentation.regions import Region
from anomap.augmentation.settings import Bounds, Fraction, Share

FAINT, CLEAR = "faint", "clear"
STRENGTHS = (FAINT, CLEAR)
VISIBLE = (
    0.02  # an intensity change (0 ... 1) above this counts as visible; a faint one may be small, but is to be seen
)


@dataclass
class Ellipse(Region):
    """An ellipse at any angle, wholly inside the image."""

    size: Fraction = 0.08  # its longer axis; at least 2 px
    aspect: Share = (0.6, 1.0)  # shorter / longer axis

    def __call__(self, draw: Draw, shape: tuple[int, int]) -> Tensor:
        radius = _pixels(self.size, shape) / 2
        aspect, angle, across, down = draw.uniform("ellipse", 4)[:, :, None, None].unbind(1)
        x, y = _turned(shape, radius, angle, across, down, draw.device)
        distance = (torch.hypot(x, y / between(aspect, self.aspect)) - radius).clamp(-1e3, 1e3)
        return (0.5 - distance / max(1.0, radius / 4)).clamp(0.0, 1.0)[:, None]


@dataclass
class Arc(Region):
    """A thin, smooth, evenly bent line that gets thinner towards its ends."""

    size: Fraction = 0.08  # its length; at least 2 px
    bend: Share = (0.0, 0.15)  # height of the bow, share of the length

    def __call__(self, draw: Draw, shape: tuple[int, int]) -> Tensor:
        reach = _pixels(self.size, shape) / 2
        bend, angle, across, down = draw.uniform("arc", 4)[:, :, None, None].unbind(1)
        x, y = _turned(shape, reach, angle, across, down, draw.device)
        along = x / reach
        off = (y - between(bend, self.bend) * 2 * reach * (along.square() - 0.5)).abs()
        half = max(0.75, reach / 16) * (1 - along.square()).clamp(min=0).sqrt()
        return ((half - off + 0.5).clamp(0.0, 1.0) * (along.abs() <= 1))[:, None]


@dataclass
class Tarnish(Fill):
    """Towards black or white, whichever the region has more room for: dirt, a burn, a bare place."""

    strength: Fraction = 0.4  # share of the way

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        mean = (images * region).sum((1, 2, 3)) / (region.sum((1, 2, 3)) * images.shape[1]).clamp(min=1e-6)
        to = (mean < 0.5).to(images.dtype)[:, None, None, None]
        return torch.lerp(images, to.expand_as(images), self.strength)


@dataclass
class Warp(Fill):
    """The surface pushed in from the region's border towards a place within it, or out: a dent, a stretched weave."""

    strength: Fraction = 0.5  # of the radius that the middle moves at most

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        angle = draw.uniform("warp")[:, None, None] * 2 * math.pi
        x, y, away, radius = _places(region)
        bump = (1 - away.square()).clamp(min=0).square() * self.strength * radius
        return _sampled(images, x + bump * torch.cos(angle), y + bump * torch.sin(angle))


@dataclass
class Smear(Fill):
    """Wiped in one direction."""

    strength: Fraction = 0.5  # length of the wipe, share of the region's diameter

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        angle = draw.uniform("smear")[:, None, None] * math.pi
        x, y, _, radius = _places(region)
        steps = torch.linspace(-1, 1, 9, device=images.device) * self.strength
        moved = (_sampled(images, x + s * radius * torch.cos(angle), y + s * radius * torch.sin(angle)) for s in steps)
        return sum(moved, torch.zeros_like(images)) / len(steps)


@dataclass
class Pattern(Fill):
    """A fine foreign pattern over the surface: waves, as of a tool, a wrong weave or a print."""

    strength: Fraction = 0.15  # amplitude
    period: Annotated[tuple[float, float], Bounds(2.0)] = (3.0, 6.0)  # px

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        period, angle, phase = draw.uniform("pattern", 3)[:, :, None, None].unbind(1)
        x, y, _, _ = _places(region)
        along = x * torch.cos(angle * math.pi) + y * torch.sin(angle * math.pi)
        wave = torch.sin((along / between(period, self.period) + phase) * 2 * math.pi)[:, None]
        return images + self.strength * wave * sign(draw.uniform("side"))[:, None, None, None]


# kind -> shape, fill, and how strong a faint and a clear one is
KINDS: dict[str, tuple[type[Ellipse | Arc], type[Fill], tuple[float, float]]] = {
    "spot": (Ellipse, Tarnish, (0.12, 0.45)),
    "scratch": (Arc, Tarnish, (0.2, 0.6)),
    "warp": (Ellipse, Warp, (0.25, 0.7)),
    "smear": (Ellipse, Smear, (0.25, 1.0)),
    "pattern": (Ellipse, Pattern, (0.06, 0.2)),
}


def damage(kind: str, size: float, strength: str, seed: int = 0) -> HardAugmentation:
    """Damages every image once, with one of `KINDS` of that size at that of the `STRENGTHS`."""
    region, fill, levels = KINDS[kind]
    made = fill(strength=levels[STRENGTHS.index(strength)])  # pyright: ignore[reportCallIssue]
    return HardAugmentation({kind: region(size=size)}, {kind: made}, visible=VISIBLE, seed=seed)


def _pixels(size: float, shape: tuple[int, int]) -> float:
    return max(2.0, size * min(shape))


def _turned(
    shape: tuple[int, int], reach: float, angle: Tensor, across: Tensor, down: Tensor, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Coordinates (K, H, W) in px about a place at least `reach` from the border, turned; the random ones are (K, 1, 1)."""
    x, y = (
        torch.arange(room, device=device) + 0.5 - min(reach, room / 2) - place * max(0.0, room - 2 * reach)
        for room, place in ((shape[1], across), (shape[0], down))
    )
    x, y, angle = x, y.transpose(1, 2), angle * math.pi
    return torch.cos(angle) * x + torch.sin(angle) * y, torch.cos(angle) * y - torch.sin(angle) * x


def _places(region: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of a region (K, 1, H, W): x and y of all pixels in px, their distance from its middle in radii, and the radius."""
    height, width = region.shape[2:]
    x, y = torch.arange(width, device=region.device) + 0.5, (torch.arange(height, device=region.device) + 0.5)[:, None]
    inside = region[:, 0]
    area = inside.sum((1, 2), keepdim=True).clamp(min=1e-6)
    away_x, away_y = (
        x - (inside * x).sum((1, 2), keepdim=True) / area,
        y - (inside * y).sum((1, 2), keepdim=True) / area,
    )
    radius = (2 * (inside * (away_x.square() + away_y.square())).sum((1, 2), keepdim=True) / area).sqrt().clamp(min=1.0)
    return x.expand_as(inside), y.expand_as(inside), torch.hypot(away_x, away_y) / radius, radius


def _sampled(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Images (K, C, H, W) read at x, y (K, H, W) in px, mirrored beyond the border."""
    height, width = images.shape[2:]
    grid = torch.stack([2 * x / width - 1, 2 * y / height - 1], dim=3)
    return grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
