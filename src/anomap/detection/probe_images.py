"""A few images to check an exported file on."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from anomap.data.accounting import unaccounted
from anomap.data.build import build_data
from anomap.data.files import find_images
from anomap.detection.detector import Images, Preprocessing
from anomap.errors import UserError

COUNT = 8  # at most
NOISE = (600, 800)  # size of noise that stands for photographs

Item = TypeVar("Item")


def probe_images(given: str | None, data: Mapping[str, Any], preprocessing: Preprocessing) -> tuple[Any, str]:
    """Images of a folder, or of the run's `data` (noise if they are gone); and what they are, in words.

    They are uint8 (N, C, H, W), or a list of (C, H, W) if they are to be tiled.
    UserError if the folder is not there, or holds no image, or one that cannot be read.
    """
    if given is not None:
        folder = Path(os.path.expanduser(given))
        paths = [folder / name for name in (_spread(find_images(folder)) if folder.is_dir() else ())]
        if not paths:
            raise UserError(f"images={given}: no such folder, or no image in it; leave it out for the run's own")
        return _together([preprocessing.read(path) for path in paths], preprocessing), f"{len(paths)} images of {given}"
    try:
        with unaccounted():
            scan = build_data(data).layout.scan()
        images = [
            preprocessing.read(sample.path) if sample.path is not None else preprocessing.take(scan.pixels(sample))  # pyright: ignore[reportOptionalCall]
            for sample in _spread(scan.test or scan.train)
        ]
    except UserError as error:
        size = preprocessing.size if isinstance(preprocessing.size, tuple) else NOISE
        shape = (COUNT, preprocessing.channels, *size)
        noise = np.random.default_rng(0).integers(0, 255, shape, np.uint8, endpoint=True)
        found = f"{COUNT} images of noise, since the run's are gone ({error}); images=DIR gives others"
        return _together(list(noise), preprocessing), found
    return _together(images, preprocessing), f"{len(images)} of the run's {'test' if scan.test else 'training'} images"


def _together(images: list[Images], preprocessing: Preprocessing) -> Images | list[Images]:
    return np.stack(images) if isinstance(preprocessing.size, tuple) else images


def _spread(items: Sequence[Item]) -> list[Item]:
    """At most `COUNT`, evenly from the first to the last: of a test set, normal and abnormal ones."""
    chosen = np.linspace(0, len(items) - 1, min(COUNT, len(items))).round().astype(int)
    return [items[index] for index in chosen]
