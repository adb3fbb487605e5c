"""Fashion-MNIST as anomaly detection: one class is normal, the nine others are abnormal.

Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms",
arXiv 1708.07747. The four IDX files, packed (.gz) or not, as in Debian's package `dataset-fashion-mnist`.
"""

import gzip
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anomap.data.files import existing_folder
from anomap.data.samples import ABNORMAL, NORMAL, Sample, Scan
from anomap.errors import UserError

DEBIAN_ROOT = "/usr/share/datasets/fashion-mnist"
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
_SIDE = 28


@dataclass
class FashionMnistLayout:
    """The official split: train on the normal class of the training files, test on all test images."""

    root: str | os.PathLike[str] | None = None  # the folder of the IDX files; None: Debian's
    normal_class: int | str = 0  # 0..9 or one of `CLASSES`

    def __post_init__(self) -> None:
        named = CLASSES.index(self.normal_class) if self.normal_class in CLASSES else self.normal_class
        if isinstance(named, bool) or named not in range(len(CLASSES)):
            raise UserError(f"data.normal_class={self.normal_class}: use 0..9 or one of {', '.join(CLASSES)}")
        self.normal_class = int(named)

    def scan(self) -> Scan:
        """UserError: a file is missing or broken."""
        if self.root is None and not Path(DEBIAN_ROOT).is_dir():
            remedy = "apt-get install dataset-fashion-mnist, or set data.root to the folder of the four IDX files"
            raise UserError(f"{DEBIAN_ROOT} does not exist: {remedy}")
        root = existing_folder("root", self.root or DEBIAN_ROOT)
        images: dict[str, NDArray[np.uint8]] = {}
        samples: dict[str, list[Sample]] = {}
        for part, prefix in (("train", "train"), ("test", "t10k")):
            images[part] = _read_idx(root, f"{prefix}-images-idx3-ubyte", 3)
            labels = _read_idx(root, f"{prefix}-labels-idx1-ubyte", 1)
            if len(images[part]) != len(labels) or images[part].shape[1:] != (_SIDE, _SIDE):
                raise UserError(f"{root}: the {part} images and labels do not belong together; fetch the files again")
            samples[part] = [
                Sample(f"{part}/{row:05d}", NORMAL if kind == self.normal_class else ABNORMAL, CLASSES[kind])
                for row, kind in enumerate(labels)
            ]

        def pixels(sample: Sample) -> NDArray[np.uint8]:
            part, row = sample.name.split("/")
            return images[part][int(row)]

        return Scan([sample for sample in samples["train"] if sample.label == NORMAL], samples["test"], pixels)


def _read_idx(root: Path, name: str, dimensions: int) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes; a packed file is not read beyond the size in its header."""
    path = next((file for file in (root / f"{name}.gz", root / name) if file.is_file()), None)
    if path is None:
        raise UserError(f"{root} has no {name}.gz: data.root must be the folder of the four Fashion-MNIST files")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            zeros, kind, depth, *shape = struct.unpack(f">HBB{dimensions}I", file.read(4 + 4 * dimensions))
            if (zeros, kind, depth) != (0, 8, dimensions):  # 8 is the code of unsigned bytes
                raise ValueError("wrong header")
            size = int(np.prod(shape, dtype=object))
            if size > 60_000 * _SIDE**2:
                raise ValueError("larger than Fashion-MNIST")
            return np.frombuffer(file.read(size), dtype=np.uint8).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, zlib.error) as error:
        raise UserError(f"{path} is not a sound IDX file ({error}): fetch it again") from error
