"""A search space: keys of anomap-train, each with a range or choices, as in `conf/space/*.yaml`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anomap.config import quoted
from anomap.errors import UserError

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Value = float | int | str | bool | None
Choices = tuple[Value, ...]

_WORDS = {"low", "high", "log", "step", "choices"}


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; whole ones if both ends and the step are whole."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are drawn."""
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 1))

    def __contains__(self, value: Any) -> bool:
        if type(value) not in ((int,) if self.whole else (int, float)) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / (self.step or float("inf"))
        return abs(steps - round(steps)) < 1e-9


Space = dict[str, Choices | Range]


def read_space(node: Mapping[str, Any]) -> Space:
    """The `space` group as key -> what may be drawn for it; UserError for an entry that is neither range nor choices.

    It is nested as the keys are: `{"model": {"optimizer": {"lr_generator": {"low": 1e-4, "high": 1e-2, "log": true}}}}`.
    """
    space = dict(_entries(node))
    if not space:
        raise UserError("space: nothing to search; choose one with space=..., or write {low: ..., high: ...} for a key")
    return space


def _entries(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Choices | Range]]:
    for name, value in node.items():
        key = f"{prefix}{name}"
        if not isinstance(value, Mapping):
            raise UserError(f"space.{key}={value}: give a range {{low: ..., high: ...}} or {{choices: [...]}}")
        if not value or value.keys() - _WORDS:
            yield from _entries(value, f"{key}.")
        else:
            yield key, (_range if value.get("choices") is None else _choices)(key, value)


def _choices(key: str, given: Mapping[str, Any]) -> Choices:
    choices = given["choices"]
    if len(given) > 1 or not isinstance(choices, list) or not choices:
        raise UserError(f"space.{key}: choices stand alone, and are a list such as [a,b]")
    if not all(value is None or isinstance(value, str | int | float) for value in choices):
        raise UserError(f"space.{key}.choices: each is a number, a text, true, false or null")
    return tuple(choices)


def _range(key: str, given: Mapping[str, Any]) -> Range:
    for name, number in {"low": None, "high": None, **given}.items():
        if name != "log" and type(number) not in (int, float):
            raise UserError(f"space.{key}.{name}={number}: give a number")
    low, high, log, step = given["low"], given["high"], given.get("log", False), given.get("step")
    if not low < high or (log and low <= 0):
        raise UserError(f"space.{key}: low={low} must be below high={high}, and above 0 where log is true")
    if step is not None and (log or step <= 0):
        raise UserError(f"space.{key}: step={step} must be positive, and does not go with log: true")
    return Range(low, high, bool(log), step)


def suggest(space: Space, trial: BaseTrial) -> dict[str, Value]:
    """Values for a trial: key -> value."""
    values: dict[str, Value] = {}
    for key, entry in space.items():
        if isinstance(entry, tuple):
            values[key] = trial.suggest_categorical(key, entry)
        elif entry.whole:
            low, high, step = int(entry.low), int(entry.high), int(entry.step or 1)
            values[key] = trial.suggest_int(key, low, high, step=step, log=entry.log)
        else:
            values[key] = trial.suggest_float(key, entry.low, entry.high, step=entry.step, log=entry.log)
    return values


def override(key: str, value: Value) -> str:
    """`key=value` as Hydra's command line wants it."""
    if isinstance(value, str):
        return f"{key}={quoted(value)}" if set(value) & set("=,[]{} ") else f"{key}={value}"
    return f"{key}={json.dumps(value)}"
