"""Perlin gradient noise of a whole batch at once, every sample with its own grid, rotation and gradients."""

import math

import torch
from torch import Tensor

from anomap.augmentation.random import Draw, between

_TABLE = 32  # gradients along each axis, a power of 2; the noise repeats after that many cells


def perlin(draw: Draw, shape: tuple[int, int], cells_x: Tensor, cells_y: Tensor) -> Tensor:
    """Perlin noise (K, H, W), about -0.7 ... 0.7 with mean 0, of so many cells (K,) across and down an image of `shape`."""
    height, width = shape
    x = (torch.arange(width, device=draw.device) + 0.5) / width - 0.5
    y = ((torch.arange(height, device=draw.device) + 0.5) / height - 0.5)[:, None]
    turn, offset_u, offset_v = draw.uniform("perlin", 3)[:, :, None, None].unbind(1)
    turn = between(turn, (-math.pi / 2, math.pi / 2))
    cos, sin = torch.cos(turn), torch.sin(turn)
    u = (cos * x + sin * y) * cells_x[:, None, None] + offset_u * _TABLE  # (K, H, W)
    v = (cos * y - sin * x) * cells_y[:, None, None] + offset_v * _TABLE

    cell_u, cell_v = torch.floor(u), torch.floor(v)
    u, v = u - cell_u, v - cell_v
    column, row, last = cell_u.long(), cell_v.long(), _TABLE - 1
    # `& last` is the remainder, also of negative cells: the table is periodic.
    columns = column & last, (column + 1) & last  # of the left and the right corner, each (K, H, W)
    rows = (row & last) * _TABLE, ((row + 1) & last) * _TABLE  # of the upper and the lower corner
    gradient = 2.0 * math.pi * draw.uniform("gradient", _TABLE * _TABLE)  # (K, table)
    gradient_u, gradient_v = torch.cos(gradient), torch.sin(gradient)

    def ramp(right: int, lower: int) -> Tensor:
        corner = (columns[right] + rows[lower]).flatten(1)
        along_u = gradient_u.gather(1, corner).view_as(u)
        return along_u * (u - right) + gradient_v.gather(1, corner).view_as(u) * (v - lower)

    fade_u, fade_v = (part * part * part * (part * (part * 6 - 15) + 10) for part in (u, v))
    upper = torch.lerp(ramp(0, 0), ramp(1, 0), fade_u)
    lower = torch.lerp(ramp(0, 1), ramp(1, 1), fade_u)
    return torch.lerp(upper, lower, fade_v)
