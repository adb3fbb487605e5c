"""The numbers in `conf/augmentation/*.yaml`, checked against the `Bounds` in their field's annotation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

from anomap.config import is_number
from anomap.errors import UserError

Interval = tuple[float, float]  # [low, high]


class Bounds(NamedTuple):
    """A setting lies between `lowest` and `highest`, both included, and is finite."""

    lowest: float
    highest: float = math.inf

    def number(self, name: str, value: Any) -> float:
        """`value` as a float; UserError unless it is a number within the bounds."""
        if not self._holds(value):
            raise UserError(f"augmentation: {name} is {value}, give a number {self}")
        return float(value)

    def interval(self, name: str, value: Any) -> Interval:
        """`value` as (low, high); UserError unless lowest <= low <= high <= highest."""
        pair = list(value) if isinstance(value, Sequence) else []
        if len(pair) == 2 and all(map(self._holds, pair)) and pair[0] <= pair[1]:
            return float(pair[0]), float(pair[1])
        raise UserError(f"augmentation: {name} is {value}, give [low, high] with low <= high, each {self}")

    def __str__(self) -> str:
        return f"from {self.lowest:g} {f'to {self.highest:g}' if math.isfinite(self.highest) else 'up'}"

    def _holds(self, value: Any) -> bool:
        return is_number(value) and self.lowest <= value <= self.highest


Fraction = Annotated[float, Bounds(0.0, 1.0)]
Share = Annotated[Interval, Bounds(0.0, 1.0)]  # a range of fractions


@dataclass
class Settings:
    """A dataclass that refuses a value outside its field's `Bounds`, naming the field."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            kind, *notes = get_args(hint) or (hint,)
            for bounds in notes:
                if isinstance(bounds, Bounds):
                    check = bounds.number if kind is float else bounds.interval
                    setattr(self, name, check(f"{type(self).__name__}.{name}", getattr(self, name)))
