"""Random crack lines as graphs over a straight chord: a pixel's distance then costs one table look-up.

In the frame of its chord a line is v = f(u): a parabola (its bend) plus a Brownian bridge (its jags), both zero at
the ends. The distance of a pixel to it is |v - f(u)| / sqrt(1 + f'(u)^2) to first order.
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from anomap.augmentation.random import Draw

_KNOTS = 24  # corners of the jagged line
_POINTS = 512  # table entries along the chord: finer than a pixel up to 512 px


class Strokes:
    """K random lines, tabulated along their chords; lengths in pixels, all arguments (K,) but `start` (K, 2).

    A line starts at `start` (x, y) under `angle` (radians). `width` is that of its widest place; it varies and tapers
    to a pixel at the ends. `bend` and `roughness` are the heights of parabola and bridge as fractions of `length`.
    """

    def __init__(
        self, draw: Draw, start: Tensor, angle: Tensor, length: Tensor, width: Tensor, bend: Tensor, roughness: Tensor
    ) -> None:
        t = torch.arange(_POINTS, device=draw.device) / (_POINTS - 1)
        walk = pad(draw.normal("walk", _KNOTS - 1).cumsum(1) * _KNOTS**-0.5, (1, 0))
        walk = walk - walk[:, -1:] * torch.linspace(0, 1, _KNOTS, device=draw.device)
        curve = bend[:, None] * 4 * t * (1 - t) + roughness[:, None] * _tabulate(walk)
        swell = _tabulate(draw.uniform("swell", _KNOTS // 3))
        taper = (torch.minimum(t, 1 - t) * 8).clamp(max=1.0)
        self.start, self.length = start, length
        self.direction = torch.stack([torch.cos(angle), torch.sin(angle)], dim=1)  # (K, 2), unit vector
        self.offset = curve * length[:, None]  # f, (K, points)
        # Never thinner than a pixel: thinner lines would fade instead of getting thinner.
        self.half_width = (width[:, None] * (0.4 + 0.6 * swell) * taper).clamp(min=1.0) / 2  # (K, points)

    def point(self, t: Tensor) -> Tensor:
        """The point (K, 2) of each line over the fraction `t` (K,) in [0, 1) of its chord."""
        offset = self.offset.gather(1, (t * _POINTS).long()[:, None])
        across = torch.stack([-self.direction[:, 1], self.direction[:, 0]], dim=1)
        return self.start + self.direction * (t * self.length)[:, None] + across * offset

    def coverage(self, shape: tuple[int, int]) -> Tensor:
        """How much of each pixel the line covers, 0 ... 1: (K, 1, H, W)."""
        height, width = shape
        x = (torch.arange(width, device=self.start.device) + 0.5 - self.start[:, :1])[:, None, :]  # (K, 1, W)
        y = (torch.arange(height, device=self.start.device) + 0.5 - self.start[:, 1:])[:, :, None]  # (K, H, 1)
        cos, sin = self.direction[:, 0, None, None], self.direction[:, 1, None, None]
        u = (cos * x + sin * y) * (_POINTS / self.length[:, None, None])  # (K, H, W), in table entries
        v = cos * y - sin * x
        entry = u.long().clamp(0, _POINTS - 1).flatten(1)

        step = (self.length / _POINTS)[:, None]
        slope = (self.offset[:, 2:] - self.offset[:, :-2]) / (2 * step)
        shrink = torch.rsqrt(1.0 + pad(slope[:, None], (1, 1), mode="replicate")[:, 0].square())
        distance = (v - self.offset.gather(1, entry).view_as(v)).abs_() * shrink.gather(1, entry).view_as(v)
        covered = (self.half_width.gather(1, entry).view_as(v) + 0.5 - distance).clamp_(0.0, 1.0)
        return (covered * ((u >= 0) & (u < _POINTS)))[:, None]


def _tabulate(knots: Tensor) -> Tensor:
    """Evenly spaced knots (K, n) joined by straight lines: (K, points)."""
    return interpolate(knots[:, None], size=_POINTS, mode="linear", align_corners=True)[:, 0]
