"""How a command ends early: wrong input, signals, full disks, DDP child processes. Imports nothing heavy.

A signal stops the work at once, by an exception. While a model trains, `anomap.training.stopping` takes the signals over:
there the current step is finished and a checkpoint written first.
"""

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

FAILED = 1  # exit status: a job of a sweep failed
USER_ERROR = 2  # exit status: what the user gave is wrong
_RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")  # whoever started the processes set one of them


def fail(message: str) -> NoReturn:
    """One line on standard error, exit status 2."""
    print("error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(USER_ERROR)


def obey(number: int, frame: FrameType | None) -> None:
    """A handler for SIGTERM that raises, as Ctrl-C does, so that half-written files are removed."""
    del frame
    raise Stopped(number)


def behind(error: BaseException) -> Stopped | KeyboardInterrupt | None:
    """The signal that ended the work, even if a library's clean-up then raised an error of its own (as OmegaConf's does).

    Errors in the user's files or disk, and exits, count by themselves, even after a signal.
    """
    found: BaseException | None = error
    while found is not None and not isinstance(found, Stopped | KeyboardInterrupt):
        ended = isinstance(found, UserError | OSError) or not isinstance(found, Exception)
        found = None if ended else found.__context__
    return found


def leave(error: Stopped | KeyboardInterrupt, advice: str = "") -> NoReturn:
    """Exit with the signal's status and one line on standard error; a child process of a training exits silently with 0."""
    if is_further():
        sys.exit(0)
    number = signal_of(error)
    print(f"stopped by {signal.Signals(number).name}{advice and '; '}{advice}", file=sys.stderr)
    sys.exit(128 + number)  # by the convention of shells


def full_disk(error: OSError, folder: Path) -> UserError | None:
    """The error as one line if a disk or a quota is full, else None."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    where = error.filename or folder
    return UserError(f"{where}: {error.strerror}; files that were there before are kept: make room, then go on")


def is_further() -> bool:
    """Whether this is one of a training's processes, and not the first."""
    return any(os.environ.get(name, "0") not in ("", "0") for name in _RANKS)


@contextmanager
def further_process() -> Iterator[None]:
    """In a training's further processes: log only errors, and exit quietly if the first process, which reports, is gone."""
    if not is_further():
        yield
        return
    logging.getLogger().setLevel(logging.ERROR)
    first = os.getppid()
    try:
        yield
    except Exception:
        time.sleep(2)  # until the first process, if it ended, is gone; it has said why
        if os.getppid() != first:
            sys.exit(1)
        raise
