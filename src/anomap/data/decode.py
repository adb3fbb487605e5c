"""Decode many images once, on several threads, into memory or into a file that is mapped into memory."""

import logging
import mmap
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from threading import Event
from typing import Generic, TypeVar, cast

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

ITEMS_AT_A_TIME = 8  # at most


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
    for sample, done in track(in_flight(samples, decode), console=Console(stderr=True), transient=True, **bar):
        try:
            decoded = done.result()
        except UnreadableImageError as error:
            if not skip_unreadable:
                raise
            log.debug("%s", error)
            skipped.append(sample.name)
            continue
        yield sample, decoded
    if skipped:
        message = "left out %d of %d %s images that cannot be read: %s"
        log.warning(message, len(skipped), len(samples), label, shorten(skipped))


@dataclass(frozen=True)
class Done(Generic[Result]):
    """The result of one item's work, or its error."""

    value: Result | None = None
    error: Exception | None = None

    def result(self) -> Result:
        """The result; raises the error."""
        if self.error is not None:
            raise self.error
        return cast(Result, self.value)


def in_flight(
    items: Iterable[Item], work: Callable[[Item], Result]
) -> Generator[tuple[Item, Done[Result]], None, None]:
    """Do the work for each item on a thread pool, a few items ahead of the consumer; in the order of `items`.

    A thread takes several items at a time, because handing over single items costs a tenth of decoding a small file. The
    first items go one by one, so that a few large files still occupy all threads.
    """
    workers = worker_count()
    pending: deque[tuple[list[Item], Future[list[Done[Result]]]]] = deque()
    closed = Event()

    def each(chunk: list[Item]) -> list[Done[Result]]:
        return [_attempt(work, item) for item in chunk if not closed.is_set()]

    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            source, taken = iter(items), 0
            while chunk := list(islice(source, min(ITEMS_AT_A_TIME, 1 + taken // (4 * workers)))):
                taken += len(chunk)
                pending.append((chunk, pool.submit(each, chunk)))
                if len(pending) > workers:
                    yield from _results(*pending.popleft())
            while pending:
                yield from _results(*pending.popleft())
        finally:
            closed.set()
            for _, future in pending:
                future.cancel()


def _attempt(work: Callable[[Item], Result], item: Item) -> Done[Result]:
    try:
        return Done(work(item))
    except Exception as error:  # is raised where the result is asked for
        return Done(error=error)


def _results(items: list[Item], future: "Future[list[Done[Result]]]") -> Iterator[tuple[Item, Done[Result]]]:
    yield from zip(items, future.result(), strict=True)


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
    """Collects equal-shaped uint8 arrays in a temporary file; each is written at once, so memory stays flat.

    The file has no name in its folder (None = the system's for temporary files), so the system frees it however the process
    ends. It grows as needed, whatever the capacity.
    """

    def __init__(self, _capacity: int, shape: tuple[int, ...], folder: str | None = None) -> None:
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
                f"cannot keep decoded images in {self._folder}: {error.strerror or error}; name a folder with room with "
                "data.cache_dir=DIR, or raise data.cache_mb to keep them in memory"
            ) from error


def release(*arrays: NDArray[np.uint8] | None) -> None:
    """Drop the pages of mapped arrays from this process, so that its memory does not grow with use.

    The system's file cache keeps them while it has room. Other arrays are left alone.
    """
    for array in arrays:
        # only mode "r": writes to a private mapping would be lost; a copy of a mapping has no mapping of its own
        if isinstance(array, np.memmap) and array.mode == "r" and hasattr(mmap, "MADV_DONTNEED"):
            array._mmap.madvise(mmap.MADV_DONTNEED)  # pyright: ignore[reportAttributeAccessIssue]
