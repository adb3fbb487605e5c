"""Decode many images once, on several threads, into memory or into a file that is mapped into memory."""

import logging
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from anomap.data.files import shorten, worker_count
from anomap.data.reading import UnreadableImageError
from anomap.data.samples import Sample
from anomap.errors import UserError

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


def decode_all(
    samples: Sequence[Sample], decode: Callable[[Sample], Result], label: str, skip_unreadable: bool = False
) -> Iterator[tuple[Sample, Result]]:
    """Decode samples on a thread pool (the decoders release the GIL), in order.

    Only a few samples are in flight, so memory does not grow with the data set. A progress bar is shown when
    standard error is a terminal.

    Args:
        samples: what to decode.
        decode: the work for one sample; must be thread-safe.
        label: what to call these samples in the progress bar and the warning.
        skip_unreadable: leave out samples whose file is unreadable, with one warning at the end.

    Yields:
        (sample, decoded), in the order of `samples`.

    Raises:
        UserError: whatever `decode` raises, for the first sample in order.
    """
    skipped: list[str] = []
    bar = {"description": f"decoding {label}", "total": len(samples), "disable": not sys.stderr.isatty()}
    for sample, future in track(in_flight(samples, decode), console=Console(stderr=True), transient=True, **bar):
        try:
            decoded = future.result()
        except UnreadableImageError as error:
            if not skip_unreadable:
                raise
            log.debug("%s", error)
            skipped.append(sample.name)
            continue
        yield sample, decoded
    if skipped:
        log.warning(
            "left out %d of %d %s images that cannot be read: %s",
            len(skipped),
            len(samples),
            label,
            shorten(skipped),
        )


def in_flight(
    items: Iterable[Item], work: Callable[[Item], Result]
) -> Generator[tuple[Item, Future[Result]], None, None]:
    """Do the work for each item on a thread pool, a few items ahead of who asks; in the order of `items`."""
    workers = worker_count()
    pending: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for item in items:
                pending.append((item, pool.submit(work, item)))
                if len(pending) > 4 * workers:
                    yield pending.popleft()
            while pending:
                yield pending.popleft()
        finally:
            for _, future in pending:
                future.cancel()


class MemoryStore:
    """Collects equal-shaped uint8 arrays in memory, allocated once."""

    def __init__(self, capacity: int, shape: tuple[int, ...]) -> None:
        self._array = np.empty((capacity, *shape), dtype=np.uint8)
        self._count = 0

    def append(self, item: NDArray[np.uint8]) -> None:
        """Add one array of the store's shape."""
        self._array[self._count] = item
        self._count += 1

    def finish(self) -> NDArray[np.uint8]:
        """What was collected, (N, *shape)."""
        return self._array[: self._count]


class FileStore:
    """Collects equal-shaped uint8 arrays in a temporary file: written as they come, so memory stays flat.

    The file has no name in its folder, so the system frees it when the process ends, however it ends.
    """

    def __init__(self, shape: tuple[int, ...], folder: str | None) -> None:
        self._shape = shape
        self._folder = folder or tempfile.gettempdir()
        self._count = 0
        with self._room():
            self._file = tempfile.TemporaryFile(prefix="anomap-", dir=self._folder)  # noqa: SIM115

    def append(self, item: NDArray[np.uint8]) -> None:
        """Add one array of the store's shape; UserError when the disk is full."""
        with self._room():
            self._file.write(np.ascontiguousarray(item).data)
        self._count += 1

    def finish(self) -> NDArray[np.uint8]:
        """What was collected, (N, *shape), mapped read-only; the mapping keeps the file alive."""
        shape = (self._count, *self._shape)
        with self._room():
            self._file.flush()
        if self._count == 0:  # an empty file cannot be mapped
            return np.empty(shape, dtype=np.uint8)
        mapped = np.memmap(self._file, dtype=np.uint8, mode="r", shape=shape)
        self._file.close()
        return mapped

    @contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(
                f"cannot keep decoded images in {self._folder}: {error.strerror or error}; "
                "name a folder with room with data.cache_dir=DIR, or raise data.cache_mb to keep them in "
                "memory"
            ) from error
