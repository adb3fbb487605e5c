"""Errors that users see as one line, and the signal that stops a command."""

import difflib
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from signal import SIGINT

log = logging.getLogger(__name__)


class UserError(Exception):
    """The user's input or configuration is wrong; one line, with which commands end: what, where, and what to do about it."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The most similar of the known words, if any is similar; else one that starts with `word`."""
    words = list(known)
    close = difflib.get_close_matches(word, words, 1, cutoff=0.5)
    return next(iter([*close, *(name for name in words if name.startswith(word))]), None)


class Stopped(BaseException):
    """A signal ended the work at a point from which it can go on; no `Exception`, since it ends a sweep, too."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


def signal_of(error: Stopped | KeyboardInterrupt) -> int:
    """The signal that brought it."""
    return error.signal if isinstance(error, Stopped) else SIGINT


@contextmanager
def optional(what: str) -> Iterator[None]:
    """Let the work inside fail (no memory left, a full disk, an error) with one line that says `what` is left out."""
    try:
        yield
    except Exception as error:
        said = (str(error).splitlines() or [""])[0]
        log.warning("%s left out: %s%s", what, type(error).__name__, said and f": {said}")
