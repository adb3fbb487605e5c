"""SIGINT (Ctrl-C) and SIGTERM while a model trains: the current step is finished and a checkpoint written first.

Everywhere else a signal stops the work at once: `anomap.cli.signals`. Imports nothing heavy.
"""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

from anomap.errors import Stopped

if TYPE_CHECKING:
    import pytorch_lightning as pl

# What may differ when a run goes on, and it is still that run: where it computes, what it logs, what follows the training.
MAY_CHANGE = (
    "trainer.accelerator",
    "trainer.profiler",
    "trainer.detect_anomaly",
    "logger",
    "threshold",
    "controls",
    "figures",
    "estimate",
)
EVERY = 10  # steps between two questions to the other processes: each makes all of them wait for each other


def changing(key: str) -> str | None:
    """Which of `MAY_CHANGE` this key (with dots) is, or belongs to."""
    return next((name for name in MAY_CHANGE if key == name or key.startswith(f"{name}.")), None)


class Stop:
    """A context in which the first signal is noted instead of obeyed at once; it does nothing outside the main thread."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        self.listen()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is None and self.signal is not None:  # it came after the last look
            raise Stopped(self.signal)

    def listen(self) -> None:
        """Take the signals; once more if somebody else has taken them since (Lightning takes SIGTERM)."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before.setdefault(number, signal.signal(number, self._note))

    def check(self, trainer: pl.Trainer, step: int = 0) -> bool:
        """Whether to stop here; all processes get the same answer, so all must ask at the same place."""
        asked = self.signal is not None
        if trainer.world_size == 1:
            return asked
        return step % EVERY == 0 and trainer.strategy.reduce_boolean_decision(asked, all=False)

    def stopped(self) -> Stopped:
        """What to raise where `check` said so; the signal may have reached another process only."""
        return Stopped(self.signal or signal.SIGTERM)

    def _note(self, number: int, *_: object) -> None:
        if self.signal is not None:
            raise Stopped(number)
        self.signal = number
