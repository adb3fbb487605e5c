"""What may change when a run is resumed without making it another one. Imports nothing heavy."""

# Where it computes, what it logs, and what comes after the training: none of it changes what is learned.
MAY_CHANGE = ("trainer.accelerator", "logger", "controls", "figures")


def changing(key: str) -> str | None:
    """Which of `MAY_CHANGE` this key (with dots) is, or belongs to."""
    return next((name for name in MAY_CHANGE if key == name or key.startswith(f"{name}.")), None)
