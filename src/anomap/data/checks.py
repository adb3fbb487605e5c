"""Checks of the data options, each with a one-line answer to a wrong value."""

import math
from collections.abc import Sequence
from typing import TypeGuard

from anomap.errors import UserError


def check_channels(channels: object) -> int:
    """Return the number of channels, 1 or 3, or raise UserError."""
    if not (_is_integer(channels) and channels in (1, 3)):
        raise UserError(f"data.channels={channels}: use 1 (grey) or 3 (colour)")
    return channels


def check_integer(name: str, value: object, minimum: int) -> int:
    """Return an integer of at least `minimum`, or raise UserError naming the key `data.<name>`."""
    if not (_is_integer(value) and value >= minimum):
        raise UserError(f"data.{name}={value}: use an integer of at least {minimum}")
    return value


def check_fraction(name: str, value: object) -> float:
    """Return a number strictly between 0 and 1, or raise UserError naming the key `data.<name>`."""
    if not (_is_number(value) and 0 < value < 1):
        raise UserError(f"data.{name}={value}: use a number between 0 and 1, both excluded")
    return float(value)


def check_intensity_range(value: object) -> tuple[float, float] | None:
    """Return (low, high) with low < high, or None for the file type's own range, or raise UserError."""
    if value is None:
        return None
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        low, high = value
        if _is_number(low) and _is_number(high) and low < high:
            return float(low), float(high)
    raise UserError(f"data.intensity_range={value}: use [low,high] with low < high, in the units of the files, or null")


def check_image_size(size: object, stride: int = 1) -> tuple[int, int]:
    """Return (H, W), each a positive multiple of the model's stride.

    Args:
        size: one integer for a square, or [H, W], in pixels.
        stride: what the model needs each side to be a multiple of, in pixels.

    Raises:
        UserError: anything else; the message names the nearest valid sizes.
    """
    sides = [size, size] if _is_integer(size) else size
    if (
        not isinstance(sides, Sequence)
        or isinstance(sides, str)
        or len(sides) != 2
        or not all(_is_integer(side) and side > 0 for side in sides)
    ):
        raise UserError(f"data.image_size={size}: use one positive integer or [height,width], in pixels")
    height, width = sides
    if height % stride or width % stride:
        below = [max(stride, side // stride * stride) for side in (height, width)]
        above = [math.ceil(side / stride) * stride for side in (height, width)]
        valid = dict.fromkeys(f"{h}" if height == width else f"[{h},{w}]" for h, w in (below, above))
        raise UserError(
            f"data.image_size={size}: the model needs a multiple of {stride}; "
            f"use {' or '.join(f'data.image_size={choice}' for choice in valid)}"
        )
    return height, width


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
