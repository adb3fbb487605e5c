"""WHERE an image is changed: each region draws one soft-edged shape per sample, from specks to large parts.

Lengths are fractions of the image's shorter side and areas of the whole. A setting `[low, high]` is a range to draw from,
log-uniformly for areas, lengths and widths. A shape's size limits the width of its soft edge: a speck stays a speck.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from anomap.augmentation.perlin import perlin
from anomap.augmentation.random import Draw, between, integer, log_between, sign, to_device
from anomap.augmentation.settings import Bounds, Fraction, Interval, Settings, Share
from anomap.augmentation.strokes import Strokes

_SMALLEST_CELL = 8  # px, of Perlin noise: what the finest grid of DRAEM, 32 cells, has at its 256 px
_TINY = 1e-5  # the least area or length, as a fraction: a logarithm needs more than 0


@dataclass
class Region(Settings, ABC):
    """A family of shapes."""

    weight: Annotated[float, Bounds(0.0)] = 1.0  # how often it is drawn, relative to the other regions

    @abstractmethod
    def __call__(self, draw: Draw, shape: tuple[int, int]) -> Tensor:
        """Opacity of the change, float32 (K, 1, H, W) in [0, 1]: K samples of `draw`, shape (H, W)."""


def _coverage(distance: Tensor, edge: Tensor) -> Tensor:
    """1 inside, 0 outside, linear over the edge: distance to the outline (K, H, W), edge (K,), both in px."""
    return (0.5 - distance / edge.clamp(min=1e-3)[:, None, None]).clamp_(0.0, 1.0)[:, None]


def _centres(draw: Draw, size: int) -> Tensor:
    """The centres of the pixels along an axis: (size,)."""
    return torch.arange(size, device=draw.device) + 0.5


@dataclass
class Rectangle(Region):
    """An upright rectangle on whole pixels: the patch of CutPaste (https://arxiv.org/abs/2104.04015, 2.1).

    With `aspect: [1, 1]`, `edge: [0, 0]` and `inside: false` it is Cutout's square (https://arxiv.org/abs/1708.04552).
    """

    area: Annotated[Interval, Bounds(_TINY, 1.0)] = (0.0005, 0.15)  # sides of at least 2 px
    aspect: Annotated[Interval, Bounds(0.01, 100.0)] = (0.3, 3.3)  # width / height, log-uniform
    edge: Annotated[Interval, Bounds(0.0, 0.5)] = (0.0, 0.0)  # width of the soft edge; 0 is hard
    inside: bool = True  # wholly inside the image; else the centre is, and the border may cut it off

    def __call__(self, draw: Draw, shape: tuple[int, int]) -> Tensor:
        area, aspect, edge, x, y = draw.uniform("rectangle", 5).unbind(1)
        area, aspect = log_between(area, self.area) * (shape[0] * shape[1]), log_between(aspect, self.aspect)

        def along(place: Tensor, size: Tensor, room: int) -> tuple[Tensor, Tensor]:
            size = size.round().clamp(min(2, room), room)  # whole pixels
            low = torch.floor(place * (room - size + 1) if self.inside else place * room - size / 2 + 0.5)
            middle = low + size / 2
            return (_centres(draw, room) - middle[:, None]).abs() - size[:, None] / 2, size

        beyond_y, height = along(y, (area / aspect).sqrt(), shape[0])  # (K, H): distance to the sides
        beyond_x, width = along(x, (area * aspect).sqrt(), shape[1])
        distance = torch.maximum(beyond_x[:, None, :], beyond_y[:, :, None])
        edge = between(edge, self.edge) * min(shape)
        return _coverage(distance, torch.minimum(edge, torch.minimum(width, height) / 2))


@dataclass
class Scar(Region):
    """A thin rectangle at any angle: the scar of CutPaste (https://arxiv.org/abs/2104.04015, section 2.1)."""

    length: Annotated[Interval, Bounds(_TINY, 1.0)] = (0.05, 0.4)  # at least 3 px
    width: Annotated[Interval, Bounds(_TINY, 1.0)] = (0.01, 0.08)  # at least 1.5 px, at most its length
    angle: Annotated[Interval, Bounds(-180.0, 180.0)] = (-90.0, 90.0)  # to the horizontal, in degrees
    edge: Annotated[Interval, Bounds(0.0, 0.5)] = (0.0, 0.02)  # width of the soft edge; at least 1 px

    def __call__(self, draw: Draw, shape: tuple[int, int]) -> Tensor:
        length, width, angle, edge, x, y = draw.uniform("scar", 6)[:, :, None, None].unbind(1)  # (K, 1, 1) each
        half_length = (log_between(length, self.length) * min(shape) / 2).clamp(min=1.5)
        half_width = torch.minimum(log_between(width, self.width) * min(shape) / 2, half_length).clamp(min=0.75)
        angle = between(angle, self.angle) * (math.pi / 180)
        cos, sin = torch.cos(angle), torch.sin(angle)

        # The turned rectangle's bounding box lies inside the image.
        def along(place: Tensor, reach: Tensor, room: int) -> Tensor:
            return _centres(draw, room) - (reach + place * (room - 2 * reach).clamp(min=0))

        x = along(x, half_length * cos.abs() + half_width * sin.abs(), shape[1])  # (K, 1, W)
        y = along(y, half_length * sin.abs() + half_width * cos.abs(), shape[0]).transpose(1, 2)  # (K, H, 1)
        beyond_length = (cos * x + sin * y).abs() - half_length
        beyond_width = (cos * y - sin * x).abs() - half_width
        edge = torch.minimum(between(edge, self.edge) * min(shape), half_width).clamp(min=1.0)
        return _coverage(torch.maximum(beyond_length, beyond_width), edge[:, 0, 0])


@dataclass
class Blob(Region):
    """The highest parts of rotated Perlin noise, as in DRAEM (https://arxiv.org/abs/2108.07610, section 3.3).

    DRAEM's fixed height leaves some masks empty and some nearly full: here it is the quantile that gives the area drawn.
    """

    area: Annotated[Interval, Bounds(_TINY, 1.0)] = (0.0005, 0.2)  # all blobs together, at least 4 px
    octaves: Annotated[Interval, Bounds(0.0, 5.0)] = (0, 5)  # 2^octave cells, drawn for each axis; none below 8 px
    edge: Annotated[Interval, Bounds(0.0, 0.5)] = (0.0, 0.03)  # width of the soft edge; at least about 1 px

    def __call__(self, draw: Draw, shape: tuple[int, int]) -> Tensor:
        area, octave_x, octave_y, edge = draw.uniform("blob", 4).unbind(1)
        finest = math.floor(math.log2(max(1.0, min(shape) / _SMALLEST_CELL)))
        low, high = (min(int(octave), finest) for octave in self.octaves)
        cells_x, cells_y = (2.0 ** integer(octave, low, high) for octave in (octave_x, octave_y))
        # With cells that large half the resolution loses nothing, at a quarter of the cost.
        noise = perlin(draw, (-(-shape[0] // 2), -(-shape[1] // 2)), cells_x, cells_y)[:, None]
        noise = interpolate(noise, size=shape, mode="bilinear", align_corners=False)[:, 0]

        # a quantile needs no more than about 64 x 64 pixels: 2 of them are the smallest blob, 0.05 % of the image
        sample = noise[:, :: math.ceil(shape[0] / 64), :: math.ceil(shape[1] / 64)].flatten(1)
        count = sample.shape[1]
        least = max(0.5, 4 * count / (shape[0] * shape[1]))  # 4 px
        highest = sample.topk(min(math.ceil(max(self.area[1] * count, least)) + 1, count), dim=1).values
        # the height is between the last pixel of the area and the next
        rank = (log_between(area, self.area) * count - 0.5).clamp(least, highest.shape[1] - 2)
        below = rank.long()[:, None]
        height = torch.lerp(highest.gather(1, below), highest.gather(1, below + 1), rank[:, None] - below)
        # Noise rises by about 1 per cell: an edge in pixels is a step in height, at most the peak's, which it would veil.
        step = (between(edge, self.edge) + 1.0 / min(shape)) * torch.maximum(cells_x, cells_y)
        peak = noise.amax((1, 2)) - height[:, 0]
        return _coverage(height[:, :, None] - noise, torch.minimum(step.clamp(max=0.15), peak))


@dataclass
class Crack(Region):
    """A curved, jagged line of varying width, sometimes with a branch: from a thin scratch to a wide crack."""

    length: Annotated[Interval, Bounds(0.01, 2.0)] = (0.1, 1.1)  # distance between its ends
    width: Annotated[Interval, Bounds(_TINY, 0.5)] = (0.006, 0.045)  # at its widest; at least 1 px
    bend: Share = (0.0, 0.25)  # greatest distance from a straight line, a fraction of the length
    roughness: Share = (0.02, 0.12)  # jaggedness, a fraction of the length
    branch: Fraction = 0.35  # chance of a second, shorter line that leaves the first

    def __call__(self, draw: Draw, shape: tuple[int, int]) -> Tensor:
        length, width, bend, side, roughness, angle, x, y = draw.uniform("crack", 8).unbind(1)
        length, width = log_between(length, self.length) * min(shape), log_between(width, self.width) * min(shape)
        bend, roughness = between(bend, self.bend) * sign(side), between(roughness, self.roughness)
        angle = between(angle, (-math.pi, math.pi))
        # A short line may lie anywhere, the middle of a long one at least a quarter of the image from the border.
        margin_x, margin_y = ((length / 2).clamp(max=room / 4) for room in (shape[1], shape[0]))
        x, y = margin_x + x * (shape[1] - 2 * margin_x), margin_y + y * (shape[0] - 2 * margin_y)
        start = torch.stack([x - torch.cos(angle) * length / 2, y - torch.sin(angle) * length / 2], dim=1)
        trunk = Strokes(draw, start, angle, length, width, bend, roughness)
        coverage = trunk.coverage(shape)
        # Which samples have a branch is found on the CPU: a device would have to be waited for.
        branched = to_device((draw.on_cpu.uniform("branch") < self.branch).nonzero()[:, 0], draw.device)
        twig = draw.fork("twig")
        place, turn, side, short = twig.uniform("fork", 4).unbind(1)
        start = trunk.point(between(place, (0.2, 0.8)))
        angle = angle + between(turn, (0.35, 1.1)) * sign(side)
        length = length * between(short, (0.25, 0.5))
        chosen = (part[branched] for part in (start, angle, length, width * 0.7, bend, roughness))
        branch = Strokes(twig.select(branched), *chosen).coverage(shape)
        coverage[branched] = torch.maximum(coverage[branched], branch)
        return coverage


@dataclass
class Whole(Region):
    """The whole image, as in the shifted classes of CSI (https://arxiv.org/abs/2007.08176)."""

    def __call__(self, draw: Draw, shape: tuple[int, int]) -> Tensor:
        return torch.ones(len(draw), 1, *shape, device=draw.device)
