"""What makes a run another one, and what may change when it is resumed. Imports nothing heavy."""

from collections.abc import Mapping
from typing import Any

# Where it computes, what it logs, and what comes after the training: none of it changes what is learned.
MAY_CHANGE = ("trainer.accelerator", "logger", "controls", "figures")


def changing(key: str) -> str | None:
    """Which of the keys that may be given with `resume=` this one (with dots) is, or belongs to."""
    return next((name for name in MAY_CHANGE if key == name or key.startswith(f"{name}.")), None)


def decisive(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The configuration without what may change: two runs that agree in it are the same."""
    kept = {
        key: value for key, value in config.items() if changing(f"{prefix}{key}") is None and prefix + key != "resume"
    }
    return {
        key: decisive(value, f"{prefix}{key}.") if isinstance(value, Mapping) else value for key, value in kept.items()
    }
