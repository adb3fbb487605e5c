"""Checks of the numbers in `conf/augmentation/*.yaml`: ranges `[low, high]`, fractions and weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from anomap.errors import UserError

Interval = tuple[float, float]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_interval(name: str, value: Sequence[float], lowest: float, highest: float = math.inf) -> Interval:
    """`value` as (low, high) with lowest <= low <= high <= highest.

    Raises:
        UserError: it is not two numbers in that order and within those bounds.
    """
    pair = list(value) if isinstance(value, Sequence) else []
    if len(pair) == 2 and all(map(_is_number, pair)) and lowest <= pair[0] <= pair[1] <= highest:
        return float(pair[0]), float(pair[1])
    bounds = f"{lowest:g} <= low <= high" + (f" <= {highest:g}" if math.isfinite(highest) else "")
    raise UserError(f"augmentation: {name} is {value}, give [low, high] with {bounds}")


def check_fraction(name: str, value: float) -> float:
    """`value` as a number in [0, 1].

    Raises:
        UserError: it is not a number or lies outside.
    """
    if not _is_number(value) or not 0.0 <= value <= 1.0:
        raise UserError(f"augmentation: {name} is {value}, give a number from 0 to 1")
    return float(value)


def check_weight(name: str, value: float) -> float:
    """`value` as a finite weight >= 0.

    Raises:
        UserError: it is not a number, negative or not finite.
    """
    if not _is_number(value) or value < 0.0:
        raise UserError(f"augmentation: {name} is {value}, give a number from 0 up (0 switches it off)")
    return float(value)
