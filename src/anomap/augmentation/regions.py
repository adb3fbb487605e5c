"""WHERE an image is changed: each region draws one soft-edged shape per sample.

Sizes are fractions of the image, so that 32 and 256 px images get the same shapes. A length is a fraction of
the image's shorter side, an area one of the whole image.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from anomap.augmentation.interval import check_fraction, check_interval, check_weight
from anomap.augmentation.perlin import perlin
from anomap.augmentation.random import Draw
from anomap.augmentation.strokes import stroke

_SMALLEST_CELL = 8  # px, of Perlin noise: what the finest grid of DRAEM, 32 cells, has at its 256 px


class Region(ABC):
    """A family of shapes.

    Attributes:
        weight: how often this region is drawn, relative to the others.
    """

    def __init__(self, weight: float) -> None:
        self.weight = check_weight(f"{type(self).__name__}.weight", weight)

    @abstractmethod
    def __call__(self, draw: Draw, shape: tuple[int, int]) -> Tensor:
        """Opacity of the change, float32 (K, 1, H, W) in [0, 1]: K samples of `draw`, shape (H, W)."""


def _coverage(distance: Tensor, edge: Tensor) -> Tensor:
    """1 inside, 0 outside, linear over the edge: distance to the outline (K, H, W), edge (K,), both in px."""
    return (0.5 - distance / edge.clamp(min=1e-3)[:, None, None]).clamp_(0.0, 1.0)[:, None]


def _centres(draw: Draw, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The pixels' centres: x (W,) and y (H,)."""
    height, width = shape
    return torch.arange(width, device=draw.device) + 0.5, torch.arange(height, device=draw.device) + 0.5


class Rectangle(Region):
    """An upright rectangle on whole pixels: the patch of CutPaste (https://arxiv.org/abs/2104.04015, 2.1).

    With `aspect: [1, 1]`, `edge: [0, 0]` and `inside: false` it is the square of Cutout
    (https://arxiv.org/abs/1708.04552), whose centre may lie anywhere, so that the border may cut it off.
    """

    def __init__(
        self,
        area: Sequence[float] = (0.02, 0.15),
        aspect: Sequence[float] = (0.3, 3.3),
        edge: Sequence[float] = (0.0, 0.0),
        inside: bool = True,
        weight: float = 1.0,
    ) -> None:
        """Sizes and odds.

        Args:
            area: range of the rectangle's share of the image.
            aspect: range of width / height, log-uniform.
            edge: range of the width of its soft edge, a fraction of the shorter side; 0 is a hard edge.
            inside: whether it lies wholly inside the image.
            weight: how often it is drawn, relative to the other regions.

        Raises:
            UserError: a value is out of bounds.
        """
        super().__init__(weight)
        self.area = check_interval("Rectangle.area", area, 0.0, 1.0)
        self.aspect = check_interval("Rectangle.aspect", aspect, 0.01, 100.0)
        self.edge = check_interval("Rectangle.edge", edge, 0.0, 0.5)
        self.inside = inside

    def __call__(self, draw: Draw, shape: tuple[int, int]) -> Tensor:
        """See `Region.__call__`."""
        area = draw.between("area", self.area) * (shape[0] * shape[1])
        aspect = draw.log_between("aspect", self.aspect)
        width, height = (area * aspect).sqrt(), (area / aspect).sqrt()
        sizes = torch.stack([width, height], dim=1).round()  # (K, 2)
        room = torch.tensor([shape[1], shape[0]], device=draw.device)
        sizes = sizes.clamp(min=torch.ones_like(room), max=room)
        place = draw.uniform("place", 2)
        low = torch.floor(place * (room - sizes + 1) if self.inside else place * room - sizes / 2 + 0.5)
        x, y = _centres(draw, shape)
        middle = (low + sizes / 2)[:, :, None]
        half = (sizes / 2)[:, :, None]
        beyond_x = (x - middle[:, 0]).abs() - half[:, 0]  # (K, W)
        beyond_y = (y - middle[:, 1]).abs() - half[:, 1]  # (K, H)
        distance = torch.maximum(beyond_x[:, None, :], beyond_y[:, :, None])
        return _coverage(distance, draw.between("edge", self.edge) * min(shape))


class Scar(Region):
    """A long thin rectangle turned by a random angle: the scar of CutPaste (section 2.2), any direction."""

    def __init__(
        self,
        length: Sequence[float] = (0.1, 0.4),
        width: Sequence[float] = (0.02, 0.08),
        angle: Sequence[float] = (-90.0, 90.0),
        edge: Sequence[float] = (0.0, 0.02),
        weight: float = 1.0,
    ) -> None:
        """Sizes and odds.

        Args:
            length: range of its length, a fraction of the shorter side.
            width: range of its width, a fraction of the shorter side; at least 1.5 px are drawn.
            angle: range of its angle to the horizontal, in degrees.
            edge: range of the width of its soft edge, a fraction of the shorter side; at least 1 px is drawn.
            weight: how often it is drawn, relative to the other regions.

        Raises:
            UserError: a value is out of bounds.
        """
        super().__init__(weight)
        self.length = check_interval("Scar.length", length, 0.0, 1.0)
        self.width = check_interval("Scar.width", width, 0.0, 1.0)
        self.angle = check_interval("Scar.angle", angle, -180.0, 180.0)
        self.edge = check_interval("Scar.edge", edge, 0.0, 0.5)

    def __call__(self, draw: Draw, shape: tuple[int, int]) -> Tensor:
        """See `Region.__call__`."""
        half_length = draw.between("length", self.length) * min(shape) / 2
        half_width = (draw.between("width", self.width) * min(shape) / 2).clamp(min=0.75)
        angle = draw.between("angle", self.angle) * (math.pi / 180)
        cos, sin = torch.cos(angle), torch.sin(angle)
        # The turned rectangle's bounding box lies inside the image.
        reach = half_length[:, None] * torch.stack([cos, sin], dim=1).abs()
        reach = reach + half_width[:, None] * torch.stack([sin, cos], dim=1).abs()
        room = torch.tensor([shape[1], shape[0]], device=draw.device)
        middle = reach + draw.uniform("place", 2) * (room - 2 * reach).clamp(min=0)
        x, y = _centres(draw, shape)
        x, y = (x - middle[:, :1])[:, None, :], (y - middle[:, 1:])[:, :, None]
        cos, sin = cos[:, None, None], sin[:, None, None]
        beyond_length = (cos * x + sin * y).abs() - half_length[:, None, None]
        beyond_width = (cos * y - sin * x).abs() - half_width[:, None, None]
        edge = (draw.between("edge", self.edge) * min(shape)).clamp(min=1.0)
        return _coverage(torch.maximum(beyond_length, beyond_width), edge)


class Blob(Region):
    """The highest parts of Perlin noise, as in DRAEM (https://arxiv.org/abs/2108.07610, section 3.3).

    DRAEM cuts at a fixed height, which leaves some masks empty and some nearly full. Here the height is the
    quantile that gives the area drawn.
    """

    def __init__(
        self,
        area: Sequence[float] = (0.02, 0.2),
        octaves: Sequence[int] = (0, 5),
        edge: Sequence[float] = (0.0, 0.03),
        weight: float = 1.0,
    ) -> None:
        """Sizes and odds.

        Args:
            area: range of the blobs' share of the image, all together.
            octaves: range of the exponent of the grid: 2^octave cells along an axis, drawn for each axis; no
                cell is smaller than 8 px, as in DRAEM.
            edge: range of the width of the soft edge, a fraction of the shorter side; at least about 1 px.
            weight: how often it is drawn, relative to the other regions.

        Raises:
            UserError: a value is out of bounds.
        """
        super().__init__(weight)
        self.area = check_interval("Blob.area", area, 0.0, 1.0)
        self.octaves = check_interval("Blob.octaves", octaves, 0, 5)
        self.edge = check_interval("Blob.edge", edge, 0.0, 0.5)

    def __call__(self, draw: Draw, shape: tuple[int, int]) -> Tensor:
        """See `Region.__call__`."""
        finest = math.floor(math.log2(max(1.0, min(shape) / _SMALLEST_CELL)))
        low, high = (min(int(octave), finest) for octave in self.octaves)
        cells_x = 2.0 ** draw.integer("octave_x", low, high).float()
        cells_y = 2.0 ** draw.integer("octave_y", low, high).float()
        # With cells that large half the resolution loses nothing, at a quarter of the cost.
        half = -(-shape[0] // 2), -(-shape[1] // 2)
        noise = perlin(draw, half, cells_x, cells_y)[:, None]
        noise = interpolate(noise, size=shape, mode="bilinear", align_corners=False)[:, 0]

        # A quantile needs no more than about 32 x 32 pixels.
        sample = noise[:, :: math.ceil(shape[0] / 32), :: math.ceil(shape[1] / 32)].flatten(1)
        last = sample.shape[1] - 1
        highest = sample.topk(min(math.ceil(self.area[1] * last), last) + 1, dim=1).values
        rank = (draw.between("area", self.area) * last).long()
        height = highest.gather(1, rank[:, None])[:, :, None]
        # Noise rises by about 1 per cell, which turns an edge in pixels into a step in height; a step that is
        # large beside the noise itself would veil the whole image.
        edge = draw.between("edge", self.edge) * min(shape) + 1.0
        step = (edge * torch.maximum(cells_x, cells_y) / min(shape)).clamp(max=0.15)
        return _coverage(height - noise, step)


class Crack(Region):
    """A curved, jagged line of varying width, sometimes with a branch."""

    def __init__(
        self,
        length: Sequence[float] = (0.3, 1.1),
        width: Sequence[float] = (0.015, 0.045),
        bend: Sequence[float] = (0.0, 0.25),
        roughness: Sequence[float] = (0.02, 0.12),
        branch: float = 0.35,
        weight: float = 1.0,
    ) -> None:
        """Sizes and odds.

        Args:
            length: range of the distance between its ends, a fraction of the shorter side.
            width: range of its greatest width, a fraction of the shorter side; at least 1 px is drawn.
            bend: range of its greatest distance from a straight line, a fraction of the length.
            roughness: range of its jaggedness, a fraction of the length.
            branch: the chance of a second, shorter line that leaves the first.
            weight: how often it is drawn, relative to the other regions.

        Raises:
            UserError: a value is out of bounds.
        """
        super().__init__(weight)
        self.length = check_interval("Crack.length", length, 0.01, 2.0)
        self.width = check_interval("Crack.width", width, 0.0, 0.5)
        self.bend = check_interval("Crack.bend", bend, 0.0, 1.0)
        self.roughness = check_interval("Crack.roughness", roughness, 0.0, 1.0)
        self.branch = check_fraction("Crack.branch", branch)

    def __call__(self, draw: Draw, shape: tuple[int, int]) -> Tensor:
        """See `Region.__call__`."""
        side = min(shape)
        length = draw.between("length", self.length) * side
        width = draw.between("width", self.width) * side
        bend = draw.between("bend", self.bend) * draw.sign("side")
        roughness = draw.between("roughness", self.roughness)
        angle = draw.between("angle", (-math.pi, math.pi))
        room = torch.tensor([shape[1], shape[0]], device=draw.device)
        middle = draw.between("place", (0.25, 0.75), 2) * room
        start = middle - torch.stack([torch.cos(angle), torch.sin(angle)], dim=1) * length[:, None] / 2
        trunk = stroke(draw, start, angle, length, width, bend, roughness)
        coverage = trunk.coverage(shape)

        branched = (draw.uniform("branch") < self.branch).nonzero()[:, 0]
        if len(branched) == 0:
            return coverage
        twig = draw.fork("twig").select(branched)
        fork_point = trunk.point(draw.between("fork", (0.2, 0.8)))[branched]
        fork_angle = angle[branched] + twig.between("angle", (0.35, 1.1)) * twig.sign("side")
        fork_length = length[branched] * twig.between("length", (0.25, 0.5))
        fork_width = width[branched] * 0.7
        line = stroke(twig, fork_point, fork_angle, fork_length, fork_width, bend[branched], roughness[branched])
        coverage[branched] = torch.maximum(coverage[branched], line.coverage(shape))
        return coverage


class Whole(Region):
    """The whole image, as in the shifted classes of CSI (https://arxiv.org/abs/2007.08176)."""

    def __init__(self, weight: float = 1.0) -> None:
        """Odds.

        Args:
            weight: how often it is drawn, relative to the other regions.

        Raises:
            UserError: the weight is negative.
        """
        super().__init__(weight)

    def __call__(self, draw: Draw, shape: tuple[int, int]) -> Tensor:
        """See `Region.__call__`."""
        return torch.ones(len(draw), 1, *shape, device=draw.device)
