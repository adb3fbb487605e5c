"""Checks of the data options that `anomap.config` has none for."""

import math
from collections.abc import Sequence
from typing import Any

from anomap.config import is_number
from anomap.errors import UserError


def check_channels(channels: object) -> int:
    """The number of channels, 1 or 3; UserError otherwise."""
    if type(channels) is not int or channels not in (1, 3):
        raise UserError(f"data.channels={channels}: use 1 (grey), 3 (colour) or, to train, auto")
    return channels


def check_bands(bands: object) -> tuple[int, ...] | None:
    """One or three places, counted from 0, or None; UserError otherwise."""
    if bands is None:
        return None
    places: list[Any] = list(bands) if isinstance(bands, Sequence) and not isinstance(bands, str) else [bands]
    if len(places) not in (1, 3) or not all(type(place) is int and place >= 0 for place in places):
        raise UserError(f"data.bands={bands}: use one or three places, counted from 0, such as [0,2,4], or null")
    return tuple(int(place) for place in places)


def check_share(name: str, value: object) -> float:
    """`data.<name>` as a float; UserError unless it is at least 0 and below a half."""
    if not is_number(value) or not 0 <= value < 0.5:
        raise UserError(f"data.{name}={value}: use a share from 0 to below 0.5, such as 0.05")
    return float(value)


def check_fraction(name: str, value: object) -> float:
    """A number strictly between 0 and 1; UserError, naming the key `data.<name>`, otherwise."""
    if not (is_number(value) and 0 < value < 1):
        raise UserError(f"data.{name}={value}: use a number between 0 and 1, both excluded")
    return float(value)


def check_intensity_range(value: object) -> tuple[float, float] | None:
    """(low, high) with low < high, or None for the file type's own range; UserError otherwise."""
    if value is None:
        return None
    pair = list(value) if isinstance(value, Sequence) else []
    if len(pair) == 2 and all(map(is_number, pair)) and pair[0] < pair[1]:
        return float(pair[0]), float(pair[1])
    raise UserError(
        f"data.intensity_range={value}: use [low,high] with low < high, in the units of the files, null or, to train, auto"
    )


def check_image_size(size: object, stride: int = 1, key: str = "data.image_size") -> tuple[int, int]:
    """(H, W) in pixels of one side or [H, W]; UserError, with the nearest valid sizes, if not positive multiples of `stride`."""
    sides = [size, size] if type(size) is int else list(size) if isinstance(size, Sequence) else []
    if len(sides) != 2 or not all(type(side) is int and side > 0 for side in sides):
        raise UserError(f"{key}={size}: use one positive integer or [height,width], in pixels")
    height, width = sides
    if height % stride or width % stride:
        below = [max(stride, side // stride * stride) for side in sides]
        above = [math.ceil(side / stride) * stride for side in sides]
        valid = dict.fromkeys(f"{h}" if height == width else f"[{h},{w}]" for h, w in (below, above))
        raise UserError(
            f"{key}={size}: the model needs a multiple of {stride}; "
            f"use {' or '.join(f'{key}={choice}' for choice in valid)}"
        )
    return height, width
