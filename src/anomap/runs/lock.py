"""One process at a time in a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anomap.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextmanager
def alone(folder: Path, busy: str) -> Iterator[None]:
    """Keep a second process out of a folder, which is made if it is not there.

    The lock ends with the process, however that ends. On file systems without locks it does nothing.

    Args:
        folder: gets an empty file `.lock`, which stays.
        busy: what to say if another process is in it.

    Raises:
        UserError: `busy`, or the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, 0o666)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to ({error.strerror}); give another folder") from error
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise UserError(busy) from None
    except OSError:
        pass  # no locks here
    try:
        yield
    finally:
        os.close(file)
