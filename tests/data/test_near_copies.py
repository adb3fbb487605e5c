"""Saved again, a test image is found among the training images; photographs that only look alike are not."""

import tracemalloc
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from anomap.data.near_copies import find_near_copies

from .helpers import make_dataset, module

RNG = np.random.default_rng(3)


def textures(count: int, side: int = 64) -> NDArray[np.uint8]:
    """(N, 1, H, W), smooth, all different."""
    coarse = RNG.integers(40, 220, (count, side // 8, side // 8)).astype(np.uint8)
    fine = [np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)) for image in coarse]
    return np.stack(fine)[:, None]


def saved_again(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    file = BytesIO()
    Image.fromarray(image[0]).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))[None]


@pytest.mark.parametrize("quality", [95, 75, 40])
def test_an_image_that_was_saved_again_is_found_and_no_other(quality: int) -> None:
    train, test = textures(60), textures(20)
    test[7], test[3] = saved_again(train[41], quality), train[5]
    found = find_near_copies(test, train)
    assert {(pair.image, pair.other) for pair in found} == {(7, 41), (3, 5)}
    assert all(pair.difference < pair.usual / 5 for pair in found)


@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0])
def test_photographs_of_the_same_aligned_part_are_no_copies(noise: float) -> None:
    part = textures(1)[0].astype(float)
    shots = np.clip(np.rint(part + RNG.normal(0, noise, (80, 1, 64, 64))), 0, 255).astype(np.uint8)
    assert not find_near_copies(shots[:20], shots[20:])


@pytest.mark.parametrize("quality", [100, 60])
def test_a_copy_is_found_though_the_original_is_there_twice(quality: int) -> None:
    train, test = textures(60), textures(20)
    train[50] = saved_again(train[41], quality)
    test[7] = saved_again(train[41], 75)
    [found] = find_near_copies(test, train)
    assert found.image == 7
    assert found.other in (41, 50)


def test_blank_images_and_small_sets_say_nothing() -> None:
    blank = np.full((5, 1, 16, 16), 7, np.uint8)
    assert not find_near_copies(blank, np.concatenate([blank, textures(20, 16)]))
    assert not find_near_copies(blank, textures(2, 16))
    assert not find_near_copies(blank[:0], textures(5, 16))


def test_memory_does_not_grow_with_the_product_of_both_sets() -> None:
    many = np.random.default_rng(0).integers(0, 255, (60_000, 1, 8, 8), np.uint8)
    test = many[::100].copy()
    tracemalloc.start()
    try:
        found = find_near_copies(test, many)
        assert tracemalloc.get_traced_memory()[1] < 200e6  # 600 x 60,000 differences and places would take 430e6
    finally:
        tracemalloc.stop()
    assert len(found) == len(test)


def test_the_pair_is_named_in_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_dataset(tmp_path)
    with Image.open(root / "train/0.normal/04.png") as image:
        image.save(root / "test/0.normal/again.bmp")
    module(root).setup()
    (text,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "1 test image(s) look like images of the training" in text
    assert "test/0.normal/again.bmp = train/0.normal/04.png; compared as decoded, 8 x 8 pixels" in text
