"""A decoded set of images that is indexed by whole batches."""

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset

from anomap.data.decode import FileStore, MemoryStore, in_flight, release
from anomap.data.files import shorten
from anomap.data.masks import Masks
from anomap.data.ragged import Ragged, RaggedStore
from anomap.data.reading import UnreadableImageError
from anomap.data.samples import Sample

log = logging.getLogger(__name__)

NewStore = Callable[[int, tuple[int, ...]], MemoryStore | FileStore | RaggedStore]  # capacity, shape of an item
Decoded = NDArray[np.uint8]


@dataclass(eq=False, repr=False)
class ImageSet(Dataset[dict[str, Tensor]]):
    """Images and samples in one order; `image_set[indices]` is a whole batch."""

    images: Any  # uint8 (N, C, H, W), in memory or mapped from a file; or a `Ragged` of (C, H, W), each of its own size
    samples: list[Sample]
    masks: Masks | None = None  # ground truth at its own size; None without
    scaling: NDArray[np.bool_] | None = None  # (N,), which calibration normals set the scale of a score's parts
    sizes: NDArray[np.int64] | None = None  # (N, 2), (H, W) of the files, where they are to be compared

    def __post_init__(self) -> None:
        self.labels = np.array([sample.label for sample in self.samples], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: NDArray[np.int64]) -> dict[str, Tensor]:
        """A batch: `image` uint8 (B, C, H, W), `label`, `index` int64 (B,); `scaling`, `size` (B, 2) if there are."""
        parts = {"image": self.images, "label": self.labels, "scaling": self.scaling, "size": self.sizes}
        batch = {name: torch.from_numpy(values[index]) for name, values in parts.items() if values is not None}
        release(self.images)
        return {**batch, "index": torch.from_numpy(np.array(index))}

    @property
    def shapes(self) -> NDArray[np.int64]:
        """(N, 2), height and width of each image as it is stored."""
        if isinstance(self.images, Ragged):
            return self.images.shapes
        return np.tile(np.array(self.images.shape[2:], np.int64), (len(self), 1))

    def part(self, kept: NDArray[np.int64]) -> "ImageSet":
        """Some of the images, without masks; what is mapped from a file stays there."""
        mapped = self.images if isinstance(self.images, np.memmap) else getattr(self.images, "mapped", None)
        whole = isinstance(self.images, np.ndarray) and mapped is None
        images = self.images[kept] if whole else Ragged([self.images[int(place)] for place in kept], mapped)
        return ImageSet(
            images,
            [self.samples[place] for place in kept],
            scaling=None if self.scaling is None else self.scaling[kept],
        )

    def mask_of(self, index: int) -> NDArray[np.bool_] | None:
        """The true mask of an image, (H, W) of its own size, True = abnormal; None where nothing is known."""
        return None if self.masks is None else self.masks.of(self.samples[index])


def to_float(images: Tensor) -> Tensor:
    """Stored images, uint8 of any shape -> float32 in [0, 1]."""
    return images.float().div_(255.0)


def decode_image_set(
    samples: Sequence[Sample],
    decode: Callable[[Sample], Decoded],
    shape: tuple[int, ...],
    label: str,
    skip_unreadable: bool = False,
    store: NewStore = MemoryStore,
) -> ImageSet:
    """Decode samples, several at once, into an ImageSet without masks.

    `decode`, thread-safe, makes an image uint8 (C, H, W) = `shape`. `label` names the samples.
    UserError: the first file in order that cannot be used, unless `skip_unreadable`; a full disk.
    """
    images, kept, skipped = store(len(samples), shape), [], []
    each = {"at_a_time": 1} if isinstance(images, RaggedStore) else {}
    done = in_flight(samples, decode, UnreadableImageError if skip_unreadable else (), **each)
    bar = {"description": f"decoding {label}", "total": len(samples), "disable": not sys.stderr.isatty()}
    for sample, decoded in track(done, console=Console(stderr=True), transient=True, **bar):
        if isinstance(decoded, UnreadableImageError):
            log.debug("%s", decoded)
            skipped.append(sample.name)
            continue
        images.append(decoded)
        kept.append(sample)
    if skipped:
        counts = len(skipped), len(samples), label
        log.warning("left out %d of %d %s images that cannot be read: %s", *counts, shorten(skipped))
    return ImageSet(images.finish(), kept)
