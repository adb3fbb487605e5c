"""The numbers in `conf/augmentation/*.yaml`: ranges `[low, high]` and single numbers, checked when they are set.

@dataclass
class Blur(Fill):
sigma: Annotated[Interval, Bounds(0.001, 1.0)] = (0.02, 0.08)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

from anomap.errors import UserError

Interval = tuple[float, float]


class Bounds(NamedTuple):
    """What a setting may be: from `lowest` to `highest`, both included and finite."""

    lowest: float
    highest: float = math.inf

    def number(self, name: str, value: Any) -> float:
        """`value` as a number within the bounds.

        Raises:
            UserError: it is no number or lies outside.
        """
        if self._holds(value):
            return float(value)
        end = f"to {self.highest:g}" if math.isfinite(self.highest) else "up"
        raise UserError(f"augmentation: {name} is {value}, give a number from {self.lowest:g} {end}")

    def interval(self, name: str, value: Any) -> Interval:
        """`value` as (low, high) with lowest <= low <= high <= highest.

        Raises:
            UserError: it is not two numbers in that order and within the bounds.
        """
        pair = list(value) if isinstance(value, Sequence) else []
        if len(pair) == 2 and all(map(self._holds, pair)) and pair[0] <= pair[1]:
            return float(pair[0]), float(pair[1])
        end = f" <= {self.highest:g}" if math.isfinite(self.highest) else ""
        raise UserError(f"augmentation: {name} is {value}, give [low, high] with {self.lowest:g} <= low <= high{end}")

    def _holds(self, value: Any) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return number and self.lowest <= value <= self.highest


Fraction = Annotated[float, Bounds(0.0, 1.0)]
Share = Annotated[Interval, Bounds(0.0, 1.0)]  # a range of fractions


@dataclass
class Settings:
    """A dataclass that refuses a value outside the bounds in its field's annotation, by the field's name."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            kind, *notes = get_args(hint) or (hint,)
            for bounds in notes:
                if isinstance(bounds, Bounds):
                    check = bounds.number if kind is float else bounds.interval
                    setattr(self, name, check(f"{type(self).__name__}.{name}", getattr(self, name)))
