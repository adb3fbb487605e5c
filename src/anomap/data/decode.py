"""Work on many files at once, on several threads, and stores of decoded images: in memory or in a mapped file."""

import mmap
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from threading import Event
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from anomap.data.files import worker_count
from anomap.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
Error = TypeVar("Error", bound=Exception)

ITEMS_AT_A_TIME = 8  # at most


def in_flight(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    caught: type[Error] | tuple[()] = (),
    at_a_time: int = ITEMS_AT_A_TIME,  # of items that a thread takes; 1 where each is large
    workers: int | None = None,  # threads; None: as many as there are cores, within bounds
) -> Generator[tuple[Item, Result | Error], None, None]:
    """Each item, in order, with the result of `work`, or with its error if that is `caught`; others are raised.

    Threads work a few items ahead of the consumer, so that memory does not grow. They take several items at a time, since
    handing over each costs a tenth of decoding a small file; the first go one by one: a few large files occupy all threads.
    """
    workers = workers or worker_count()
    pending: deque[Future[list[tuple[Item, Result | Error]]]] = deque()
    closed = Event()

    def attempt(item: Item) -> Result | Error:
        try:
            return work(item)
        except caught as error:
            return error

    def each(chunk: list[Item]) -> list[tuple[Item, Result | Error]]:
        return [(item, attempt(item)) for item in chunk if not closed.is_set()]

    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            source, taken = iter(items), 0
            while chunk := list(islice(source, min(at_a_time, 1 + taken // (4 * workers)))):
                taken += len(chunk)
                pending.append(pool.submit(each, chunk))
                if len(pending) > workers:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            closed.set()
            pool.shutdown(cancel_futures=True)


class MemoryStore:
    """Collects equal-shaped uint8 arrays in memory, allocated once."""

    def __init__(self, capacity: int, shape: tuple[int, ...]) -> None:
        self._array = np.empty((capacity, *shape), dtype=np.uint8)
        self._count = 0

    def append(self, item: NDArray[np.uint8]) -> None:
        self._array[self._count] = item
        self._count += 1

    def finish(self) -> NDArray[np.uint8]:
        """What was collected, (N, *shape)."""
        return self._array[: self._count]


class FileStore:
    """Collects equal-shaped uint8 arrays in a nameless temporary file, freed however the process ends; UserError: a full disk.

    Without a shape, arrays of one dimension and any length are collected end to end.
    """

    def __init__(self, _capacity: int, shape: tuple[int, ...] | None, folder: str | None = None) -> None:
        self._shape, self._count = shape, 0
        self._folder = folder or tempfile.gettempdir()
        with self._room():
            self._file = tempfile.TemporaryFile(prefix="anomap-", dir=self._folder)  # noqa: SIM115

    def append(self, item: NDArray[np.uint8]) -> None:
        with self._room():
            self._file.write(np.ascontiguousarray(item).data)
        self._count += 1 if self._shape is not None else len(item)

    def finish(self) -> NDArray[np.uint8]:
        """What was collected, (N, *shape), mapped read-only; the mapping keeps the file alive."""
        shape = (self._count, *(self._shape or ()))
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


def release(*stored: Any) -> None:
    """Drop the pages of mapped arrays from this process, so that its memory does not grow; the file cache keeps them.

    Anything else is left alone; of a store of several arrays its `mapped` one is meant.
    """
    for array in (getattr(part, "mapped", part) for part in stored):
        # Only mode "r": writes to a private mapping would be lost; a copy of a mapping has no mapping of its own.
        if isinstance(array, np.memmap) and array.mode == "r" and hasattr(mmap, "MADV_DONTNEED"):
            array._mmap.madvise(mmap.MADV_DONTNEED)  # pyright: ignore[reportAttributeAccessIssue]
