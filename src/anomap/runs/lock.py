"""One process at a time in a folder."""

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
    """Keep a second process out of a folder, which is made if it is not there; on file systems without locks, do not.

    The lock ends with the process. UserError if another is in the folder (the message is `busy`), or it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "ab")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to ({error.strerror}); give another folder") from error
    with file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(busy) from None
        except OSError:
            pass  # no locks here
        yield
