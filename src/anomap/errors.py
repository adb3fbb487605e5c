"""Errors that users see as one line, and the signal that stops a command."""

import signal as _signal


class UserError(Exception):
    """The user's input or configuration is wrong; the message is one line: what, where, and what to do about it.

    Commands print it to standard error without a traceback and exit with status 2.
    """


class Stopped(BaseException):
    """A signal (SIGINT, SIGTERM) ended the work at a point from which it can go on.

    No `Exception`: like KeyboardInterrupt it ends a sweep too, instead of being a job's failure.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


def signal_of(error: Stopped | KeyboardInterrupt) -> int:
    """The signal that brought it."""
    return error.signal if isinstance(error, Stopped) else _signal.SIGINT
