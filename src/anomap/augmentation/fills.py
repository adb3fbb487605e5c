"""WHAT an image is changed to: each fill makes a changed full-size image, of which the region is shown.

Lengths are fractions of the image's shorter side, so that 32 and 256 px images get the same fills.
Intensities are on the scale 0 (black) ... 1 (white).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from anomap.augmentation.interval import Interval, check_fraction, check_interval, check_weight
from anomap.augmentation.random import Draw
from anomap.augmentation.sampling import blur, roll, take_pixels, turn


class Donors(Protocol):
    """The training images, as a source of foreign pieces."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __call__(self, index: Tensor, /) -> Tensor:
        """The images of `index` (int64 (K,), on the CPU): float (K, C, H, W) in [0, 1]."""
        ...


class Fill(ABC):
    """A family of changes.

    Attributes:
        weight: how often this fill is drawn, relative to the others.
        opacity: range of how much of it is seen: 1 replaces the image, less lets it shine through.
    """

    def __init__(self, weight: float, opacity: Sequence[float]) -> None:
        name = type(self).__name__
        self.weight = check_weight(f"{name}.weight", weight)
        self.opacity = check_interval(f"{name}.opacity", opacity, 0.0, 1.0)

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


def _region_mean(images: Tensor, region: Tensor) -> Tensor:
    """Mean colour inside the region, (K, C, 1, 1); in float64, so that the batch's size cannot change it."""
    images, region = images.double(), region.double()
    total = region.sum((2, 3), keepdim=True).clamp(min=1e-6)
    return ((images * region).sum((2, 3), keepdim=True) / total).float()


def _tint(draw: Draw, channels: int, strength: float) -> Tensor:
    """A random colour cast: offsets (K, C) in +-strength/2, all zero for grey images."""
    if channels == 1 or strength == 0.0:
        return torch.zeros(len(draw), channels, device=draw.device)
    return (draw.uniform("tint", channels) - 0.5) * strength


def _jitter(images: Tensor, draw: Draw, strength: float) -> Tensor:
    """Slightly other brightness, contrast and colour, as CutPaste gives its patches (section 2.1)."""
    brightness = draw.between("jitter_brightness", (-strength, strength))
    contrast = 1.0 + draw.between("jitter_contrast", (-strength, strength))
    offset = brightness[:, None] + _tint(draw, images.shape[1], 2 * strength)
    return (images - 0.5) * _per_image(contrast) + 0.5 + _per_image(offset)


class Cutout(Fill):
    """One constant (https://arxiv.org/abs/1708.04552): dark, bright or any grey, with a colour cast."""

    def __init__(
        self,
        dark: float = 0.4,
        bright: float = 0.25,
        level: Sequence[float] = (0.0, 1.0),
        tint: float = 0.3,
        opacity: Sequence[float] = (0.6, 1.0),
        weight: float = 1.0,
    ) -> None:
        """Colours and odds.

        Args:
            dark: the chance of the lowest 15 % of `level`, as a shadow, a hole or an inactive area has.
            bright: the chance of the highest 15 % of `level`.
            level: range of the grey level.
            tint: greatest difference between the channels of colour images.
            opacity: see `Fill`.
            weight: see `Fill`.

        Raises:
            UserError: a value is out of bounds.
        """
        super().__init__(weight, opacity)
        self.dark = check_fraction("Cutout.dark", dark)
        self.bright = check_fraction("Cutout.bright + dark", dark + bright) - dark
        self.level = check_interval("Cutout.level", level, 0.0, 1.0)
        self.tint = check_fraction("Cutout.tint", tint)

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        """See `Fill.__call__`."""
        kind, share = draw.uniform("kind"), draw.uniform("level")
        share = torch.where(kind < self.dark, 0.15 * share, share)
        share = torch.where(kind >= 1.0 - self.bright, 1.0 - 0.15 * share, share)
        level = self.level[0] + (self.level[1] - self.level[0]) * share
        return _per_image(level[:, None] + _tint(draw, images.shape[1], self.tint)).expand_as(images)


class Noise(Fill):
    """Gaussian noise around a random grey level, fine or coarse, grey or coloured."""

    def __init__(
        self,
        level: Sequence[float] = (0.1, 0.9),
        deviation: Sequence[float] = (0.1, 0.35),
        grain: Sequence[float] = (0.0, 0.06),
        coloured: float = 0.5,
        opacity: Sequence[float] = (0.6, 1.0),
        weight: float = 1.0,
    ) -> None:
        """Strengths and odds.

        Args:
            level: range of the mean grey level.
            deviation: range of the standard deviation.
            grain: range of the side of a grain, a fraction of the shorter side; at least a pixel.
            coloured: the chance of noise that differs between the channels.
            opacity: see `Fill`.
            weight: see `Fill`.

        Raises:
            UserError: a value is out of bounds.
        """
        super().__init__(weight, opacity)
        self.level = check_interval("Noise.level", level, 0.0, 1.0)
        self.deviation = check_interval("Noise.deviation", deviation, 0.0, 1.0)
        self.grain = check_interval("Noise.grain", grain, 0.0, 1.0)
        self.coloured = check_fraction("Noise.coloured", coloured)

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        """See `Fill.__call__`."""
        channels, height, width = images.shape[1:]
        noise = draw.normal("noise", channels, height, width)
        if channels > 1:
            grey = _per_image(draw.uniform("coloured") >= self.coloured)
            noise = torch.where(grey, noise[:, :1], noise)
        grain = (draw.between("grain", self.grain) * min(height, width)).round().clamp(min=1).long()[:, None]
        rows = torch.arange(height, device=images.device) // grain
        columns = torch.arange(width, device=images.device) // grain
        noise = take_pixels(noise, rows[:, :, None], columns[:, None, :])
        return (
            _per_image(draw.between("level", self.level))
            + _per_image(draw.between("deviation", self.deviation)) * noise
        )


class Rotate(Fill):
    """The image turned about the middle of the region: by right angles (CSI, AnoSeg) or by any angle."""

    def __init__(
        self,
        right_angle: float = 0.5,
        angle: Sequence[float] = (20.0, 160.0),
        opacity: Sequence[float] = (1.0, 1.0),
        weight: float = 1.0,
    ) -> None:
        """Angles and odds.

        Args:
            right_angle: the chance of 90, 180 or 270 degrees.
            angle: range of the other angles, in degrees, to either side.
            opacity: see `Fill`.
            weight: see `Fill`.

        Raises:
            UserError: a value is out of bounds.
        """
        super().__init__(weight, opacity)
        self.right_angle = check_fraction("Rotate.right_angle", right_angle)
        self.angle = check_interval("Rotate.angle", angle, 0.0, 180.0)

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        """See `Fill.__call__`."""
        height, width = images.shape[2:]
        right = draw.integer("quarter", 1, 3) * (math.pi / 2)
        free = draw.between("angle", self.angle) * draw.sign("side") * (math.pi / 180)
        angle = torch.where(draw.uniform("right_angle") < self.right_angle, right, free)
        # On half pixels, where a right angle maps pixels onto pixels.
        place = torch.stack(
            [
                torch.arange(width, device=images.device).expand(height, width),
                torch.arange(height, device=images.device)[:, None].expand(height, width),
            ]
        )
        middle = (_region_mean(place[None], region) * 2).round() / 2
        return turn(images, angle, middle[:, 0, 0, 0], middle[:, 1, 0, 0])


class Permute(Fill):
    """The image cut into n x n patches that change places: a jigsaw."""

    def __init__(
        self,
        patches: Sequence[int] = (3, 8),
        opacity: Sequence[float] = (1.0, 1.0),
        weight: float = 1.0,
    ) -> None:
        """Patches and odds.

        Args:
            patches: range of n; at most one patch per 2 px.
            opacity: see `Fill`.
            weight: see `Fill`.

        Raises:
            UserError: a value is out of bounds.
        """
        super().__init__(weight, opacity)
        low, high = check_interval("Permute.patches", patches, 2, 64)
        self.patches = int(low), int(high)

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        """See `Fill.__call__`."""
        height, width = images.shape[2:]
        low, high = (max(1, min(count, height // 2, width // 2)) for count in self.patches)
        count = draw.integer("patches", low, high)[:, None]
        # The n * n patches in random order: the others sort behind them.
        key = draw.uniform("order", high * high)
        order = key.masked_fill_(torch.arange(high * high, device=images.device) >= count * count, 2.0).argsort(1)

        def locate(size: int) -> tuple[Tensor, Tensor, Tensor]:
            extent = size // count  # (K, 1)
            position = torch.arange(size, device=images.device)
            patch = torch.minimum(position // extent, count - 1)
            return (
                extent,
                patch,
                position - patch * extent,
            )  # a rest at the far border belongs to the last patch

        extent_y, patch_y, inner_y = locate(height)
        extent_x, patch_x, inner_x = locate(width)
        patch = patch_y[:, :, None] * count[:, None] + patch_x[:, None, :]  # (K, H, W)
        source = order.gather(1, patch.flatten(1)).view_as(patch)
        rows = source // count[:, None] * extent_y[:, None] + inner_y[:, :, None]
        columns = source % count[:, None] * extent_x[:, None] + inner_x[:, None, :]
        return take_pixels(images, rows.clamp(max=height - 1), columns.clamp(max=width - 1))


class PastePlace(Fill):
    """Another place of the same image, slightly recoloured (CutPaste, https://arxiv.org/abs/2104.04015)."""

    def __init__(
        self,
        shift: float = 0.15,
        jitter: float = 0.15,
        opacity: Sequence[float] = (1.0, 1.0),
        weight: float = 1.0,
    ) -> None:
        """Distances and odds.

        Args:
            shift: least distance to the other place along each axis, as a fraction of that axis, at most 0.5.
            jitter: greatest change of brightness, contrast and colour.
            opacity: see `Fill`.
            weight: see `Fill`.

        Raises:
            UserError: a value is out of bounds.
        """
        super().__init__(weight, opacity)
        self.shift = check_interval("PastePlace.shift", (shift, shift), 0.0, 0.5)[0]
        self.jitter = check_fraction("PastePlace.jitter", jitter)

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        """See `Fill.__call__`."""
        return _jitter(_rolled(images, draw, (self.shift, 1.0 - self.shift)), draw, self.jitter)


class PasteImage(Fill):
    """A place of another training image, slightly recoloured: a foreign piece."""

    def __init__(
        self,
        jitter: float = 0.15,
        opacity: Sequence[float] = (0.7, 1.0),
        weight: float = 1.0,
    ) -> None:
        """Strengths and odds.

        Args:
            jitter: greatest change of brightness, contrast and colour.
            opacity: see `Fill`.
            weight: see `Fill`.

        Raises:
            UserError: a value is out of bounds.
        """
        super().__init__(weight, opacity)
        self.jitter = check_fraction("PasteImage.jitter", jitter)

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        """See `Fill.__call__`.

        Raises:
            ValueError: `donors` is missing, empty, or gives images of another shape.
        """
        if donors is None or len(donors) == 0:
            raise ValueError("PasteImage needs donors: pass the training images, or set its weight to 0")
        # The training images are kept on the CPU, whatever device the batch is on.
        other = donors(draw.integer("donor", 0, len(donors) - 1).cpu()).to(images)
        if other.shape != images.shape:
            raise ValueError(f"donors give {tuple(other.shape)}, the batch is {tuple(images.shape)}")
        return _jitter(_rolled(other, draw, (0.0, 1.0)), draw, self.jitter)


def _rolled(images: Tensor, draw: Draw, share: Interval) -> Tensor:
    """Images (K, C, H, W) moved by random shares of both axes."""
    height, width = images.shape[2:]
    down = (draw.between("down", share) * height).long()
    right = (draw.between("right", share) * width).long()
    return roll(images, down, right)


class Shift(Fill):
    """Another brightness, contrast and colour; each at least as far off as the low end of its range."""

    def __init__(
        self,
        brightness: Sequence[float] = (0.1, 0.4),
        contrast: Sequence[float] = (1.1, 2.2),
        colour: float = 0.4,
        opacity: Sequence[float] = (1.0, 1.0),
        weight: float = 1.0,
    ) -> None:
        """Strengths and odds.

        Args:
            brightness: range of the offset; darker and brighter are as likely as there is room for.
            contrast: range of the factor about the region's mean, log-uniform; half the time inverted.
            colour: greatest difference between the offsets of the channels of colour images.
            opacity: see `Fill`.
            weight: see `Fill`.

        Raises:
            UserError: a value is out of bounds.
        """
        super().__init__(weight, opacity)
        self.brightness = check_interval("Shift.brightness", brightness, 0.0, 1.0)
        self.contrast = check_interval("Shift.contrast", contrast, 1.0)
        self.colour = check_fraction("Shift.colour", colour)

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        """See `Fill.__call__`."""
        mean = _region_mean(images, region)
        # A white region cannot get brighter: the brighter it is, the likelier it gets darker.
        darker = draw.uniform("darker") < mean.mean((1, 2, 3))
        offset = draw.between("brightness", self.brightness) * torch.where(darker, -1.0, 1.0)
        contrast = draw.log_between("contrast", self.contrast) ** draw.sign("stronger")
        offsets = offset[:, None] + _tint(draw, images.shape[1], self.colour)
        return (images - mean) * _per_image(contrast) + mean + _per_image(offsets)


class Blur(Fill):
    """The image out of focus."""

    def __init__(
        self,
        sigma: Sequence[float] = (0.02, 0.08),
        opacity: Sequence[float] = (1.0, 1.0),
        weight: float = 1.0,
    ) -> None:
        """Strengths and odds.

        Args:
            sigma: range of the Gaussian's standard deviation, a fraction of the shorter side; at least 0.7
                px, for less changes nothing.
            opacity: see `Fill`.
            weight: see `Fill`.

        Raises:
            UserError: a value is out of bounds.
        """
        super().__init__(weight, opacity)
        self.sigma = check_interval("Blur.sigma", sigma, 0.001, 1.0)

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        """See `Fill.__call__`."""
        sigma = draw.between("sigma", self.sigma) * min(images.shape[2:])
        return blur(images, sigma.clamp(min=0.7))


class Erase(Fill):
    """The image's own mean colour: what was there is gone, without a foreign intensity."""

    def __init__(self, opacity: Sequence[float] = (0.7, 1.0), weight: float = 1.0) -> None:
        """Odds.

        Args:
            opacity: see `Fill`.
            weight: see `Fill`.

        Raises:
            UserError: a value is out of bounds.
        """
        super().__init__(weight, opacity)

    def __call__(self, images: Tensor, region: Tensor, draw: Draw, donors: Donors | None = None) -> Tensor:
        """See `Fill.__call__`."""
        return images.double().mean((2, 3), keepdim=True).float().expand_as(images)
