"""Signals, full disks and DDP child processes: how a command ends early."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from anomap.errors import Stopped, UserError, signal_of

_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")  # whoever started the processes set one of them


def obey(number: int, frame: FrameType | None) -> None:
    """A handler for SIGTERM that unwinds as Ctrl-C does, so that half-written files are removed."""
    del frame
    raise Stopped(number)


def behind(error: BaseException) -> Stopped | KeyboardInterrupt | None:
    """The signal that ended the work, also where a library's clean-up failed over it (OmegaConf's, in the middle of a merge).

    Errors of the user's files and disk that came after a signal are none of that: they have to be said. Nor is the end of
    the process, before which it was said.
    """
    found: BaseException | None = error
    while found is not None and not isinstance(found, Stopped | KeyboardInterrupt):
        ended = isinstance(found, UserError | OSError) or not isinstance(found, Exception)
        found = None if ended else found.__context__
    return found


def status(number: int) -> int:
    """The exit status after a signal, as shells have it."""
    return 128 + number


def leave(error: Stopped | KeyboardInterrupt, advice: str = "") -> NoReturn:
    """One line on standard error and the exit status of the signal; further processes end silently with 0."""
    number = signal_of(error)
    if is_further():
        sys.exit(0)
    print(f"stopped by {signal.Signals(number).name}{advice and '; '}{advice}", file=sys.stderr)
    sys.exit(status(number))


def full_disk(error: OSError, folder: Path) -> UserError | None:
    """The error as one line, if a disk or a quota is full; None if it is another."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    where = error.filename or folder
    return UserError(f"{where}: {error.strerror}; files that were there before are kept: make room, then go on")


def is_further() -> bool:
    """Whether this is a process of a training other than the first."""
    return any(os.environ.get(name, "0") not in ("", "0") for name in _RANKS)


@contextmanager
def further_process() -> Iterator[None]:
    """In a further process: log errors only, since the first says the rest, and do not complain when the first process is gone."""
    if not is_further():
        yield
        return
    logging.getLogger().setLevel(logging.ERROR)
    parent = os.getppid()
    try:
        yield
    except Exception:
        time.sleep(2)  # until the first process, if it ended, is gone; it has said why
        if os.getppid() != parent:
            sys.exit(1)
        raise
