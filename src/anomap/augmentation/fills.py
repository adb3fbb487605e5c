"""WHAT an image is changed to: each fill makes a changed full-size image, of which the region is shown.

Lengths are fractions of the image's shorter side, intensities 0 (black) ... 1 (white), `[low, high]` ranges to draw from.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomap.augmentation.random import Draw, between, integer, log_between, sign, to_device
from anomap.augmentation.sampling import blur, roll, take_pixels, turn
from anomap.augmentation.settings import Bounds, Fraction, Interval, Settings, Share

Donors = NDArray[np.uint8]  # the training images as they are stored, (N, C, H, W): a source of foreign pieces


@dataclass
class Fill(Settings, ABC):
    """A family of changes."""

    weight: Annotated[float, Bounds(0.0)] = 1.0  # how often it is drawn, relative to the other fills
    opacity: Share = (1.0, 1.0)  # 1 replaces the image, less lets it shine through

    @abstractmethod
    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        """The changed images, float32 (K, C, H, W), clamped to [0, 1] by the caller.

        Of images (K, C, H, W) in [0, 1] only the region (K, 1, H, W) in [0, 1] will be seen; `draw` has the random numbers.
        """


def _per_image(values: Tensor) -> Tensor:
    """(K,) or (K, C) as something that broadcasts against (K, C, H, W)."""
    return values.view(*values.shape, *[1] * (4 - values.dim()))


def _total(values: Tensor) -> Tensor:
    """Sum over the pixels, (K, C, 1, 1): axis by axis, so that its last bits do not depend on the batch size."""
    return values.sum(3, keepdim=True).sum(2, keepdim=True)


def _middle(profile: Tensor) -> Tensor:
    """Mean position (K,) in a profile (K, length), on half pixels: there a right angle maps pixels onto pixels."""
    place = torch.arange(profile.shape[1], device=profile.device)
    return ((profile * place).sum(1) / profile.sum(1).clamp(min=1e-6) * 2).round() / 2


def _tint(draw: Draw, channels: int, strength: float) -> Tensor:
    """A random colour cast: offsets (K, C) in +-strength/2, all zero for grey images."""
    if channels == 1 or strength == 0.0:
        return torch.zeros(len(draw), channels, device=draw.device)
    return (draw.uniform("tint", channels) - 0.5) * strength


def _paste(images: Tensor, draw: Draw, share: Interval, strength: float) -> Tensor:
    """Images (K, C, H, W) moved by random shares of both axes, slightly recoloured (CutPaste, section 2.1)."""
    height, width = images.shape[2:]
    down, right = between(draw.uniform("roll", 2), share).unbind(1)
    moved = roll(images, (down * height).long(), (right * width).long())
    brightness, contrast = between(draw.uniform("jitter", 2), (-strength, strength)).unbind(1)
    offset = brightness[:, None] + _tint(draw, images.shape[1], 2 * strength)
    return (moved - 0.5) * _per_image(1.0 + contrast) + 0.5 + _per_image(offset)


@dataclass
class Cutout(Fill):
    """One constant (https://arxiv.org/abs/1708.04552): dark, bright or any grey, with a colour cast."""

    opacity: Share = (0.6, 1.0)
    dark: Fraction = 0.4  # chance of the lowest 15 % of `level`, as a shadow, a hole or an inactive area has
    bright: Fraction = 0.25  # chance of the highest 15 % of `level`
    level: Share = (0.0, 1.0)  # grey level
    tint: Fraction = 0.3  # greatest difference between the channels of colour images

    def __post_init__(self) -> None:
        super().__post_init__()
        Bounds(0.0, 1.0).number("Cutout.dark + bright", self.dark + self.bright)

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        kind, share = draw.uniform("cutout", 2).unbind(1)
        share = torch.where(kind < self.dark, 0.15 * share, share)
        share = torch.where(kind >= 1.0 - self.bright, 1.0 - 0.15 * share, share)
        level = between(share, self.level)[:, None] + _tint(draw, images.shape[1], self.tint)
        return _per_image(level).expand_as(images)


@dataclass
class Noise(Fill):
    """Gaussian noise around a random grey level, fine or coarse, grey or coloured."""

    opacity: Share = (0.6, 1.0)
    level: Share = (0.1, 0.9)  # mean grey level
    deviation: Share = (0.1, 0.35)  # standard deviation
    grain: Share = (0.0, 0.06)  # side of a grain; at least 1 px
    coloured: Fraction = 0.5  # chance of noise that differs between the channels

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        channels, height, width = images.shape[1:]
        level, deviation, grain, colour = draw.uniform("settings", 4).unbind(1)
        noise = draw.normal("noise", channels, height, width)
        if channels > 1:
            noise = torch.where(_per_image(colour < self.coloured), noise, noise[:, :1])
        grain = (between(grain, self.grain) * min(height, width)).round().clamp(min=1).long()[:, None]
        rows, columns = (torch.arange(size, device=images.device) // grain for size in (height, width))
        noise = take_pixels(noise, rows[:, :, None], columns[:, None, :])
        return _per_image(between(level, self.level)) + _per_image(between(deviation, self.deviation)) * noise


@dataclass
class Rotate(Fill):
    """The image turned about the middle of the region: by right angles (CSI, AnoSeg) or by any angle."""

    right_angle: Fraction = 0.5  # chance of 90, 180 or 270 degrees
    angle: Annotated[Interval, Bounds(0.0, 180.0)] = (20.0, 160.0)  # other angles, degrees to either side

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        kind, quarter, free, side = draw.uniform("rotate", 4).unbind(1)
        right = integer(quarter, 1, 3) * (math.pi / 2)
        free = between(free, self.angle) * sign(side) * (math.pi / 180)
        x, y = (_middle(region.sum(axis)[:, 0]) for axis in (2, 3))
        return turn(images, torch.where(kind < self.right_angle, right, free), x, y)


@dataclass
class Permute(Fill):
    """The image cut into n x n patches that change places: a jigsaw."""

    patches: Annotated[Interval, Bounds(2.0, 64.0)] = (3, 8)  # n; at most one patch per 2 px

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        height, width = images.shape[2:]
        low, high = (max(1, min(int(count), height // 2, width // 2)) for count in self.patches)
        count = integer(draw.uniform("patches"), low, high)[:, None]
        surplus = torch.arange(high * high, device=images.device) >= count * count  # sorts behind the n * n patches
        order = draw.uniform("order", high * high).masked_fill_(surplus, 2.0).argsort(1)

        def locate(size: int) -> tuple[Tensor, Tensor, Tensor]:
            extent = size // count  # (K, 1)
            position = torch.arange(size, device=images.device)
            patch = torch.minimum(position // extent, count - 1)
            return extent, patch, position - patch * extent  # a rest at the far border belongs to the last patch

        (extent_y, patch_y, inner_y), (extent_x, patch_x, inner_x) = locate(height), locate(width)
        patch = patch_y[:, :, None] * count[:, None] + patch_x[:, None, :]  # (K, H, W)
        source = order.gather(1, patch.flatten(1)).view_as(patch)
        rows = source // count[:, None] * extent_y[:, None] + inner_y[:, :, None]
        columns = source % count[:, None] * extent_x[:, None] + inner_x[:, None, :]
        return take_pixels(images, rows.clamp(max=height - 1), columns.clamp(max=width - 1))


@dataclass
class PastePlace(Fill):
    """Another place of the same image, slightly recoloured (CutPaste, https://arxiv.org/abs/2104.04015)."""

    shift: Annotated[float, Bounds(0.0, 0.5)] = 0.15  # least distance along each axis, a fraction of that axis
    jitter: Fraction = 0.15  # greatest change of brightness, contrast and colour

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        return _paste(images, draw, (self.shift, 1.0 - self.shift), self.jitter)


@dataclass
class PasteImage(Fill):
    """A place of another training image, slightly recoloured; ValueError without donors of the images' shape."""

    opacity: Share = (0.7, 1.0)
    jitter: Fraction = 0.15  # greatest change of brightness, contrast and colour

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        if donors is None or len(donors) == 0:
            raise ValueError("PasteImage needs donors: pass the training images, or set its weight to 0")
        if donors.shape[1:] != images.shape[1:] or donors.dtype != np.uint8:
            raise ValueError(
                f"donors are {donors.shape[1:]} of {donors.dtype}, wanted: {tuple(images.shape[1:])} of uint8"
            )
        # Only those drawn cross to the device, as bytes.
        other = torch.from_numpy(donors[integer(draw.on_cpu.uniform("donor"), 0, len(donors) - 1).numpy()])
        return _paste(to_device(other, images.device).float() / 255.0, draw, (0.0, 1.0), self.jitter)


@dataclass
class Shift(Fill):
    """Another brightness, contrast and colour; each at least as far off as the low end of its range."""

    brightness: Share = (0.1, 0.4)  # offset; darker and brighter are as likely as there is room for
    contrast: Annotated[Interval, Bounds(1.0)] = (1.1, 2.2)  # factor about the region's mean, log-uniform, or 1 / it
    colour: Fraction = 0.4  # greatest difference between the offsets of the channels of colour images

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        darker, brightness, contrast, stronger = draw.uniform("shift", 4).unbind(1)
        mean = _total(images * region) / _total(region).clamp(min=1e-6)
        # A white region cannot get brighter: the brighter it is, the likelier it gets darker.
        offset = between(brightness, self.brightness) * torch.where(darker < mean.mean((1, 2, 3)), -1.0, 1.0)
        offsets = offset[:, None] + _tint(draw, images.shape[1], self.colour)
        contrast = log_between(contrast, self.contrast) ** sign(stronger)
        return (images - mean) * _per_image(contrast) + mean + _per_image(offsets)


@dataclass
class Blur(Fill):
    """The image out of focus."""

    sigma: Annotated[Interval, Bounds(0.001, 1.0)] = (0.02, 0.08)  # of the Gaussian; at least 0.7 px to be seen

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        sigma = between(draw.uniform("sigma"), self.sigma) * min(images.shape[2:])
        return blur(images, sigma.clamp(min=0.7))


@dataclass
class Erase(Fill):
    """The image's own mean colour: what was there is gone, without a foreign intensity."""

    opacity: Share = (0.7, 1.0)

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        return (_total(images) / (images.shape[2] * images.shape[3])).expand_as(images)
