"""Decoding many: order, errors, memory and mapped files."""

import logging
import pickle
import resource
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from anomap.data import imageset
from anomap.data.decode import ITEMS_AT_A_TIME, FileStore, MemoryStore, in_flight, release
from anomap.data.files import worker_count
from anomap.data.imageset import decode_image_set
from anomap.data.reading import UnreadableImageError
from anomap.data.samples import Sample
from anomap.errors import UserError

SAMPLES = [Sample(f"{number}", number % 2, "x") for number in range(100)]


def image(sample: Sample) -> np.ndarray:
    return np.full((1, 2, 3), int(sample.name), np.uint8)


def test_order_is_kept_and_two_or_more_threads_work() -> None:
    threads = set()
    both = threading.Barrier(2, timeout=10)

    def decode(sample: Sample) -> int:
        threads.add(threading.get_ident())
        if sample.name in ("0", "1"):
            both.wait()  # passes only when two threads are in here at once
        return int(sample.name)

    assert [value for _, value in in_flight(SAMPLES, decode)] == list(range(100))
    assert len(threads) >= 2


def test_only_a_few_are_in_flight() -> None:
    started = []
    results = in_flight(SAMPLES * 10, started.append)
    next(results)
    assert len(started) <= ITEMS_AT_A_TIME * (worker_count() + 1) < 1000
    results.close()


def test_threads_stop_when_nobody_asks_any_more() -> None:
    started: list[int] = []
    first = Event()

    def work(number: int) -> None:
        started.append(number)
        if len(started) > 500:  # by now several at a time
            first.wait(10)

    results = in_flight(range(100_000), work)
    while len(started) <= 500:
        next(results)
    threading.Timer(0.2, first.set).start()
    results.close()
    assert len(started) < 500 + 2 * worker_count() + 1


def test_pages_of_a_mapped_file_come_back(tmp_path: Path) -> None:
    store = partial(FileStore, folder=str(tmp_path))
    images = decode_image_set(SAMPLES, image, (1, 2, 3), "test", store=store)
    assert isinstance(images.images, np.memmap)
    for copied in (images, pickle.loads(pickle.dumps(images))):  # a loader's process may have a copy
        assert copied[np.array([7, 3])]["image"][:, 0, 0, 0].tolist() == [7, 3]
        assert copied[np.array([7])]["image"][0, 0, 0, 0] == 7


def test_each_batch_lets_go_of_its_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = decode_image_set(SAMPLES, image, (1, 2, 3), "test", store=partial(FileStore, folder=str(tmp_path)))
    released: list[object] = []
    monkeypatch.setattr(imageset, "release", lambda *arrays: released.extend(arrays))
    images[np.array([1])]
    assert released[0] is images.images


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_letting_go_of_pages_frees_memory(tmp_path: Path) -> None:
    large = np.memmap(tmp_path / "large", np.uint8, "w+", shape=(64, 2**20))
    large[:] = 1
    large.flush()
    mapped = np.memmap(tmp_path / "large", np.uint8, "r", shape=(64, 2**20))
    del large
    mapped.sum()
    before = _resident()
    release(mapped, None)
    assert before - _resident() > 50 * 2**20
    assert mapped[63, -1] == 1


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def fail(*numbers: int) -> Callable[[Sample], np.ndarray]:
    def decode(sample: Sample) -> np.ndarray:
        if int(sample.name) in numbers:
            raise UnreadableImageError(f"cannot read {sample.name}")
        return image(sample)

    return decode


def test_the_first_broken_file_in_order_is_reported() -> None:
    with pytest.raises(UnreadableImageError, match="cannot read 7"):
        decode_image_set(SAMPLES, fail(50, 7, 90), (1, 2, 3), "test")


@pytest.mark.parametrize("mapped", [False, True])
def test_skipped_samples_are_in_no_list(mapped: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = partial(FileStore, folder=str(tmp_path)) if mapped else MemoryStore
    with caplog.at_level(logging.WARNING):
        images = decode_image_set(SAMPLES, fail(0, 7, 50, 99), (1, 2, 3), "test", True, store)
    assert "left out 4 of 100 test images that cannot be read: 0, 7, 50 and 1 more" in caplog.text
    kept = [number for number in range(100) if number not in (0, 7, 50, 99)]
    assert [int(sample.name) for sample in images.samples] == kept
    assert images.images[:, 0, 0, 0].tolist() == kept
    assert images.labels.tolist() == [number % 2 for number in kept]


def test_other_errors_are_never_skipped() -> None:
    def decode(sample: Sample) -> np.ndarray:
        raise UserError("wrong option")

    with pytest.raises(UserError, match="wrong option"):
        decode_image_set(SAMPLES, decode, (1, 2, 3), "test", skip_unreadable=True)


def test_mapped_equals_memory_and_leaves_no_file(tmp_path: Path) -> None:
    memory = decode_image_set(SAMPLES, image, (1, 2, 3), "test")
    mapped = decode_image_set(SAMPLES, image, (1, 2, 3), "test", store=partial(FileStore, folder=str(tmp_path)))
    assert isinstance(mapped.images, np.memmap)
    assert (memory.images == mapped.images).all()
    assert list(tmp_path.iterdir()) == []
    index = np.array([5, 3, 5])
    for key, value in memory[index].items():
        assert value.equal(mapped[index][key])


def test_an_empty_set_can_be_mapped(tmp_path: Path) -> None:
    empty = decode_image_set([], image, (1, 2, 3), "test", store=partial(FileStore, folder=str(tmp_path)))
    assert empty.images.shape == (0, 1, 2, 3)


def test_no_room_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"data\.cache_dir"):
        FileStore(1, (1, 2, 3), str(tmp_path / "nowhere"))
    if not Path("/dev/full").exists():
        pytest.skip("needs a disk that is full")
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: open("/dev/full", "wb"))  # noqa: SIM115
    with pytest.raises(UserError, match="No space left"):
        decode_image_set(SAMPLES, image, (1, 2, 3), "test", store=FileStore)


def test_a_batch_is_a_copy() -> None:
    images = decode_image_set(SAMPLES, image, (1, 2, 3), "test")
    batch = images[np.array([1])]
    batch["image"][:] = 0
    assert images.images[1].max() == 1


def test_stored_images_lie_in_the_order_of_the_samples() -> None:
    stored = decode_image_set(SAMPLES, image, (1, 2, 3), "test").images
    assert (stored.shape, stored.dtype) == ((100, 1, 2, 3), np.uint8)
    assert stored[[51, 0], 0, 0, 0].tolist() == [51, 0]
