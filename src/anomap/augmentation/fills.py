"""WHAT an image is changed to: each fill makes a changed full-size image, of which the region is shown.

Lengths are fractions of the image's shorter side, so that 32 and 256 px images get the same fills.
Intensities are on the scale 0 (black) ... 1 (white).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, Protocol

import torch
from torch import Tensor

from anomap.augmentation.random import Draw, between, integer, log_between, sign, to_device
from anomap.augmentation.sampling import blur, roll, take_pixels, turn
from anomap.augmentation.settings import Bounds, Fraction, Interval, Settings, Share


class Donors(Protocol):
    """The training images, as a source of foreign pieces."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __call__(self, index: Tensor, /) -> Tensor:
        """The images of `index` (int64 (K,), on the CPU) as they are stored: uint8 (K, C, H, W), on the CPU."""
        ...


@dataclass
class Fill(Settings, ABC):
    """A family of changes.

    Attributes:
        weight: how often this fill is drawn, relative to the others.
        opacity: range of how much of it is seen: 1 replaces the image, less lets it shine through.
    """

    weight: Annotated[float, Bounds(0.0)] = 1.0
    opacity: Share = (1.0, 1.0)

    @abstractmethod
    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        """The changed images, float32 (K, C, H, W), clamped to [0, 1] by the caller.

        Args:
            images: (K, C, H, W) in [0, 1].
            region: (K, 1, H, W) in [0, 1]: the part of the result that will be seen.
            draw: the random numbers of the K samples.
            donors: the training images, if the caller has them.
        """


def _per_image(values: Tensor) -> Tensor:
    """(K,) or (K, C) as something that broadcasts against (K, C, H, W)."""
    return values.view(*values.shape, *[1] * (4 - values.dim()))


def _total(values: Tensor) -> Tensor:
    """Sum over the pixels, (K, C, 1, 1).

    One axis after the other: in one go a sum over a single image may be split among threads, and would then differ
    in its last bits from the sum of the same image within a batch.
    """
    return values.sum(3, keepdim=True).sum(2, keepdim=True)


def _region_mean(images: Tensor, region: Tensor) -> Tensor:
    """Mean colour inside the region, (K, C, 1, 1)."""
    return _total(images * region) / _total(region).clamp(min=1e-6)


def _tint(draw: Draw, channels: int, strength: float) -> Tensor:
    """A random colour cast: offsets (K, C) in +-strength/2, all zero for grey images."""
    if channels == 1 or strength == 0.0:
        return torch.zeros(len(draw), channels, device=draw.device)
    return (draw.uniform("tint", channels) - 0.5) * strength


def _jitter(images: Tensor, draw: Draw, strength: float) -> Tensor:
    """Slightly other brightness, contrast and colour, as CutPaste gives its patches (section 2.1)."""
    brightness, contrast = between(draw.uniform("jitter", 2), (-strength, strength)).unbind(1)
    offset = brightness[:, None] + _tint(draw, images.shape[1], 2 * strength)
    return (images - 0.5) * _per_image(1.0 + contrast) + 0.5 + _per_image(offset)


def _rolled(images: Tensor, draw: Draw, share: Interval) -> Tensor:
    """Images (K, C, H, W) moved by random shares of both axes."""
    height, width = images.shape[2:]
    down, right = between(draw.uniform("roll", 2), share).unbind(1)
    return roll(images, (down * height).long(), (right * width).long())


@dataclass
class Cutout(Fill):
    """One constant (https://arxiv.org/abs/1708.04552): dark, bright or any grey, with a colour cast.

    Attributes:
        opacity: see `Fill`.
        dark: the chance of the lowest 15 % of `level`, as a shadow, a hole or an inactive area has.
        bright: the chance of the highest 15 % of `level`.
        level: range of the grey level.
        tint: greatest difference between the channels of colour images.
    """

    opacity: Share = (0.6, 1.0)
    dark: Fraction = 0.4
    bright: Fraction = 0.25
    level: Share = (0.0, 1.0)
    tint: Fraction = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        Bounds(0.0, 1.0).number("Cutout.dark + bright", self.dark + self.bright)

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        """See `Fill.__call__`."""
        kind, share = draw.uniform("cutout", 2).unbind(1)
        share = torch.where(kind < self.dark, 0.15 * share, share)
        share = torch.where(kind >= 1.0 - self.bright, 1.0 - 0.15 * share, share)
        level = between(share, self.level)[:, None] + _tint(draw, images.shape[1], self.tint)
        return _per_image(level).expand_as(images)


@dataclass
class Noise(Fill):
    """Gaussian noise around a random grey level, fine or coarse, grey or coloured.

    Attributes:
        opacity: see `Fill`.
        level: range of the mean grey level.
        deviation: range of the standard deviation.
        grain: range of the side of a grain, a fraction of the shorter side; at least a pixel.
        coloured: the chance of noise that differs between the channels.
    """

    opacity: Share = (0.6, 1.0)
    level: Share = (0.1, 0.9)
    deviation: Share = (0.1, 0.35)
    grain: Share = (0.0, 0.06)
    coloured: Fraction = 0.5

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        """See `Fill.__call__`."""
        channels, height, width = images.shape[1:]
        level, deviation, grain, colour = draw.uniform("settings", 4).unbind(1)
        noise = draw.normal("noise", channels, height, width)
        if channels > 1:
            noise = torch.where(_per_image(colour < self.coloured), noise, noise[:, :1])
        grain = (between(grain, self.grain) * min(height, width)).round().clamp(min=1).long()[:, None]
        rows = torch.arange(height, device=images.device) // grain
        columns = torch.arange(width, device=images.device) // grain
        noise = take_pixels(noise, rows[:, :, None], columns[:, None, :])
        return _per_image(between(level, self.level)) + _per_image(between(deviation, self.deviation)) * noise


@dataclass
class Rotate(Fill):
    """The image turned about the middle of the region: by right angles (CSI, AnoSeg) or by any angle.

    Attributes:
        right_angle: the chance of 90, 180 or 270 degrees.
        angle: range of the other angles, in degrees, to either side.
    """

    right_angle: Fraction = 0.5
    angle: Annotated[Interval, Bounds(0.0, 180.0)] = (20.0, 160.0)

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        """See `Fill.__call__`."""
        kind, quarter, free, side = draw.uniform("rotate", 4).unbind(1)
        right = integer(quarter, 1, 3) * (math.pi / 2)
        free = between(free, self.angle) * sign(side) * (math.pi / 180)
        angle = torch.where(kind < self.right_angle, right, free)
        # On half pixels, where a right angle maps pixels onto pixels.
        x, y = (self._middle(region.sum(axis)[:, 0]) for axis in (2, 3))
        return turn(images, angle, x, y)

    @staticmethod
    def _middle(profile: Tensor) -> Tensor:
        """The mean position in a region's profile (K, length) along an axis, in half pixels: (K,)."""
        place = torch.arange(profile.shape[1], device=profile.device)
        return ((profile * place).sum(1) / profile.sum(1).clamp(min=1e-6) * 2).round() / 2


@dataclass
class Permute(Fill):
    """The image cut into n x n patches that change places: a jigsaw.

    Attributes:
        patches: range of n; at most one patch per 2 px.
    """

    patches: Annotated[Interval, Bounds(2.0, 64.0)] = (3, 8)

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        """See `Fill.__call__`."""
        height, width = images.shape[2:]
        low, high = (max(1, min(int(count), height // 2, width // 2)) for count in self.patches)
        count = integer(draw.uniform("patches"), low, high)[:, None]
        # The n * n patches in random order: the others sort behind them.
        key = draw.uniform("order", high * high)
        order = key.masked_fill_(torch.arange(high * high, device=images.device) >= count * count, 2.0).argsort(1)

        def locate(size: int) -> tuple[Tensor, Tensor, Tensor]:
            extent = size // count  # (K, 1)
            position = torch.arange(size, device=images.device)
            patch = torch.minimum(position // extent, count - 1)
            return extent, patch, position - patch * extent  # a rest at the far border belongs to the last patch

        extent_y, patch_y, inner_y = locate(height)
        extent_x, patch_x, inner_x = locate(width)
        patch = patch_y[:, :, None] * count[:, None] + patch_x[:, None, :]  # (K, H, W)
        source = order.gather(1, patch.flatten(1)).view_as(patch)
        rows = source // count[:, None] * extent_y[:, None] + inner_y[:, :, None]
        columns = source % count[:, None] * extent_x[:, None] + inner_x[:, None, :]
        return take_pixels(images, rows.clamp(max=height - 1), columns.clamp(max=width - 1))


@dataclass
class PastePlace(Fill):
    """Another place of the same image, slightly recoloured (CutPaste, https://arxiv.org/abs/2104.04015).

    Attributes:
        shift: least distance to the other place along each axis, as a fraction of that axis, at most 0.5.
        jitter: greatest change of brightness, contrast and colour.
    """

    shift: Annotated[float, Bounds(0.0, 0.5)] = 0.15
    jitter: Fraction = 0.15

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        """See `Fill.__call__`."""
        return _jitter(_rolled(images, draw, (self.shift, 1.0 - self.shift)), draw, self.jitter)


@dataclass
class PasteImage(Fill):
    """A place of another training image, slightly recoloured: a foreign piece.

    Attributes:
        opacity: see `Fill`.
        jitter: greatest change of brightness, contrast and colour.
    """

    opacity: Share = (0.7, 1.0)
    jitter: Fraction = 0.15

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        """See `Fill.__call__`.

        Raises:
            ValueError: `donors` is missing, empty, or gives images of another shape.
        """
        if donors is None or len(donors) == 0:
            raise ValueError("PasteImage needs donors: pass the training images, or set its weight to 0")
        # The training images are kept on the CPU: the ones drawn are found there and cross as they are stored.
        other = donors(integer(draw.on_cpu.uniform("donor"), 0, len(donors) - 1))
        if other.shape != images.shape or other.dtype != torch.uint8:
            raise ValueError(
                f"donors give {tuple(other.shape)} of {other.dtype}, wanted: {tuple(images.shape)} of torch.uint8"
            )
        other = to_device(other, images.device).float() / 255.0
        return _jitter(_rolled(other, draw, (0.0, 1.0)), draw, self.jitter)


@dataclass
class Shift(Fill):
    """Another brightness, contrast and colour; each at least as far off as the low end of its range.

    Attributes:
        brightness: range of the offset; darker and brighter are as likely as there is room for.
        contrast: range of the factor about the region's mean, log-uniform; half the time inverted.
        colour: greatest difference between the offsets of the channels of colour images.
    """

    brightness: Share = (0.1, 0.4)
    contrast: Annotated[Interval, Bounds(1.0)] = (1.1, 2.2)
    colour: Fraction = 0.4

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        """See `Fill.__call__`."""
        darker, brightness, contrast, stronger = draw.uniform("shift", 4).unbind(1)
        mean = _region_mean(images, region)
        # A white region cannot get brighter: the brighter it is, the likelier it gets darker.
        offset = between(brightness, self.brightness) * torch.where(darker < mean.mean((1, 2, 3)), -1.0, 1.0)
        offsets = offset[:, None] + _tint(draw, images.shape[1], self.colour)
        contrast = log_between(contrast, self.contrast) ** sign(stronger)
        return (images - mean) * _per_image(contrast) + mean + _per_image(offsets)


@dataclass
class Blur(Fill):
    """The image out of focus.

    Attributes:
        sigma: range of the Gaussian's standard deviation, a fraction of the shorter side; at least 0.7 px, for less
            changes nothing.
    """

    sigma: Annotated[Interval, Bounds(0.001, 1.0)] = (0.02, 0.08)

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        """See `Fill.__call__`."""
        sigma = between(draw.uniform("sigma"), self.sigma) * min(images.shape[2:])
        return blur(images, sigma.clamp(min=0.7))


@dataclass
class Erase(Fill):
    """The image's own mean colour: what was there is gone, without a foreign intensity."""

    opacity: Share = (0.7, 1.0)

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        """See `Fill.__call__`."""
        return (_total(images) / (images.shape[2] * images.shape[3])).expand_as(images)
