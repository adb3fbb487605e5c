"""A search space: keys of anomap-train, each with a range or choices, as in `conf/space/*.yaml`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anomap.errors import UserError

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Value = float | int | str | bool | None

_WORDS = {"low", "high", "log", "step", "choices"}


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[Value, ...]

    def suggest(self, trial: BaseTrial, key: str) -> Value:
        """Ask the study for a value."""
        return trial.suggest_categorical(key, self.values)

    def __contains__(self, value: Any) -> bool:
        return value in self.values


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

    def suggest(self, trial: BaseTrial, key: str) -> Value:
        """Ask the study for a value."""
        if self.whole:
            return trial.suggest_int(key, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(key, self.low, self.high, step=self.step, log=self.log)

    def __contains__(self, value: Any) -> bool:
        numeric = isinstance(value, int if self.whole else int | float) and not isinstance(value, bool)
        if not (numeric and self.low <= value <= self.high):
            return False
        steps = (value - self.low) / (self.step or (1 if self.whole else float("inf")))
        return abs(steps - round(steps)) < 1e-9


Space = dict[str, Choice | Range]


def read_space(node: Mapping[str, Any]) -> Space:
    """The `space` group as key -> what may be drawn for it.

    Args:
        node: nested as the keys are, `{"model": {"optimizer": {"lr_generator": {"low": 1e-4, "high": 1e-2, "log": true}}}}`.

    Raises:
        UserError: an entry is neither a range nor choices, or there is none.
    """
    space = dict(_entries(node, ""))
    if not space:
        raise UserError("space: nothing to search; choose one with space=..., or write {low: ..., high: ...} for a key")
    return space


def _entries(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Choice | Range]]:
    for name, value in node.items():
        key = f"{prefix}{name}"
        if not isinstance(value, Mapping):
            raise UserError(f"space.{key}={value}: give a range {{low: ..., high: ...}} or {{choices: [...]}}")
        if value and value.keys() <= _WORDS:
            yield key, _entry(key, value)
        else:
            yield from _entries(value, f"{key}.")


def _entry(key: str, given: Mapping[str, Any]) -> Choice | Range:
    choices = given.get("choices")
    if choices is not None:
        if len(given) > 1 or not isinstance(choices, list) or not choices:
            raise UserError(f"space.{key}: choices stand alone, and are a list such as [a,b]")
        if not all(value is None or isinstance(value, str | int | float) for value in choices):
            raise UserError(f"space.{key}.choices: each is a number, a text, true, false or null")
        return Choice(tuple(choices))
    for name, number in {"low": None, "high": None, **given}.items():
        if name != "log" and (isinstance(number, bool) or not isinstance(number, int | float)):
            raise UserError(f"space.{key}.{name}={number}: give a number")
    low, high, log, step = given["low"], given["high"], given.get("log", False), given.get("step")
    if not low < high or (log and low <= 0):
        raise UserError(f"space.{key}: low={low} must be below high={high}, and above 0 where log is true")
    if step is not None and (log or step <= 0):
        raise UserError(f"space.{key}: step={step} must be positive, and does not go with log: true")
    return Range(low, high, bool(log), step)


def suggest(space: Space, trial: BaseTrial) -> dict[str, Value]:
    """Values for a trial: key -> value."""
    return {key: entry.suggest(trial, key) for key, entry in space.items()}


def override(key: str, value: Value) -> str:
    """`key=value` as Hydra's command line wants it."""
    if isinstance(value, str):
        return f"{key}='{value}'" if set(value) & set("=,[]{} ") else f"{key}={value}"
    return f"{key}={'null' if value is None else str(value).lower() if isinstance(value, bool) else repr(value)}"
