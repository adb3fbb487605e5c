"""What makes a run another one, and what may change when it is resumed. Imports nothing heavy."""

from collections.abc import Mapping
from typing import Any

# Where it computes, what it logs, and what comes after the training: none of it changes what is learned.
MAY_CHANGE = ("trainer.accelerator", "logger", "controls", "figures")


def may_change(key: str) -> bool:
    """Whether a key (with dots) may be given with `resume=`."""
    return any(key == kept or key.startswith(f"{kept}.") for kept in MAY_CHANGE)


def decisive(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The configuration without what may change: two runs that agree in it are the same."""
    kept = {
        key: value for key, value in config.items() if not may_change(f"{prefix}{key}") and prefix + key != "resume"
    }
    return {
        key: decisive(value, f"{prefix}{key}.") if isinstance(value, Mapping) else value for key, value in kept.items()
    }
