"""Stores of images that differ in size."""

from pathlib import Path

import numpy as np
import pytest

from anomap.data.decode import FileStore, release
from anomap.data.ragged import Ragged, RaggedStore


@pytest.mark.parametrize("mapped", [False, True])
def test_what_goes_in_comes_out(mapped: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, shape).astype(np.uint8) for shape in ((3, 5, 7), (3, 2, 9), (3, 5, 7))]
    store = RaggedStore(FileStore(0, None, str(tmp_path)) if mapped else None)
    for image in images:
        store.append(image)
    found = store.finish()
    assert len(found) == 3
    assert found.shapes.tolist() == [[5, 7], [2, 9], [5, 7]]
    assert isinstance(found.mapped, np.memmap) == mapped
    for _ in range(2):  # also after its pages were dropped
        for image, kept in zip(images, found, strict=True):
            np.testing.assert_array_equal(kept, image)
        np.testing.assert_array_equal(found[np.array([2, 0])], np.stack([images[2], images[0]]))
        release(found)


def test_images_of_two_sizes_are_no_batch() -> None:
    with pytest.raises(ValueError, match="same shape"):
        Ragged([np.zeros((1, 2, 2), np.uint8), np.zeros((1, 2, 3), np.uint8)])[np.array([0, 1])]


def test_an_empty_file() -> None:
    assert len(RaggedStore(FileStore(0, None)).finish()) == 0
