"""Image files for measurements in which only speed and memory count."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_images(folder: Path, count: int, side: int, seed: int = 0, first: int = 0) -> Path:
    """`count` different grey PNGs of one size: smooth waves and a little noise, which compress about as photographs do.

    Args:
        folder: made if missing.
        count: how many.
        side: in pixels.
        seed: of the noise.
        first: number of the first, from which its content follows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waves = 128 + 40 * np.sin(np.linspace(0, 6.28, side))[:, None] + 40 * np.cos(np.linspace(0, 12.56, side))
    for number in range(first, first + count):
        noise = np.random.default_rng([seed, number]).integers(-8, 9, (side, side))  # no two files are equal
        pixels = np.roll(waves, (number * 7 % side, number * 13 % side), (0, 1)) + noise
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:06d}.png", compress_level=1)
    return folder


def write_data_set(root: Path, train: int, test: int, side: int, seed: int = 0) -> Path:
    """A `data=folder` tree: `train` normal images, `test` normal and `test` abnormal ones."""
    write_images(root / "train" / "good", train, side, seed)
    write_images(root / "test" / "good", test, side, seed, first=train)
    write_images(root / "test" / "defect", test, side, seed + 1, first=train + test)
    return root
