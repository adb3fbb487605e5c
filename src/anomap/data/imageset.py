"""A decoded set of images that is indexed by whole batches."""

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import Dataset

from anomap.data.decode import FileStore, MemoryStore, in_flight, release
from anomap.data.files import shorten
from anomap.data.reading import UnreadableImageError
from anomap.data.samples import Sample

log = logging.getLogger(__name__)

NewStore = Callable[[int, tuple[int, ...]], MemoryStore | FileStore]  # capacity, shape of an item
Decoded = tuple[NDArray[np.uint8], NDArray[np.uint8] | None]


@dataclass(eq=False, repr=False)
class ImageSet(Dataset[dict[str, Tensor]]):
    """Images, masks and samples in one order; `image_set[indices]` is a whole batch."""

    images: NDArray[np.uint8]  # (N, C, H, W), in memory or mapped from a file
    samples: list[Sample]
    masks: NDArray[np.uint8] | None = None  # (N, 1, H, W), 1 = abnormal; None without ground truth
    scaling: NDArray[np.bool_] | None = None  # (N,), which calibration normals set the scale of a score's parts

    def __post_init__(self) -> None:
        self.labels = np.array([sample.label for sample in self.samples], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: NDArray[np.int64]) -> dict[str, Tensor]:
        """A batch: `image` uint8 (B, C, H, W), `label`, `index` int64 (B,); `mask` (B, 1, H, W), `scaling` if there are."""
        parts = {"image": self.images, "label": self.labels, "mask": self.masks, "scaling": self.scaling}
        batch = {name: torch.from_numpy(values[index]) for name, values in parts.items() if values is not None}
        release(self.images, self.masks)
        return {**batch, "index": torch.from_numpy(np.array(index))}


def to_float(images: Tensor) -> Tensor:
    """Stored images, uint8 of any shape -> float32 in [0, 1]."""
    return images.float().div_(255.0)


def decode_image_set(
    samples: Sequence[Sample],
    decode: Callable[[Sample], Decoded],
    shape: tuple[int, int, int],
    label: str,
    skip_unreadable: bool = False,
    store: NewStore = MemoryStore,
) -> ImageSet:
    """Decode samples, several at once, into an ImageSet; with masks when any sample has one, zero for those without.

    `decode`, thread-safe, makes an image uint8 (C, H, W) = `shape` and a mask uint8 (1, H, W) or None. `label` names the
    samples. UserError: the first file in order that cannot be used, unless `skip_unreadable`; a full disk.
    """
    nothing_abnormal = np.zeros((1, *shape[1:]), dtype=np.uint8)
    images, kept, skipped = store(len(samples), shape), [], []
    masks = store(len(samples), nothing_abnormal.shape) if any(sample.mask for sample in samples) else None
    done = in_flight(samples, decode, UnreadableImageError if skip_unreadable else ())
    bar = {"description": f"decoding {label}", "total": len(samples), "disable": not sys.stderr.isatty()}
    for sample, decoded in track(done, console=Console(stderr=True), transient=True, **bar):
        if isinstance(decoded, UnreadableImageError):
            log.debug("%s", decoded)
            skipped.append(sample.name)
            continue
        image, mask = decoded
        images.append(image)
        if masks is not None:
            masks.append(nothing_abnormal if mask is None else mask)
        kept.append(sample)
    if skipped:
        counts = len(skipped), len(samples), label
        log.warning("left out %d of %d %s images that cannot be read: %s", *counts, shorten(skipped))
    return ImageSet(images.finish(), kept, None if masks is None else masks.finish())
