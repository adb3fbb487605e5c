"""A decoded set of images that is indexed by whole batches."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from anomap.data.decode import FileStore, MemoryStore, decode_all, release
from anomap.data.samples import Sample

NewStore = Callable[[int, tuple[int, ...]], MemoryStore | FileStore]  # capacity, shape of an item
Decoded = tuple[NDArray[np.uint8], NDArray[np.uint8] | None]


class ImageSet(Dataset[dict[str, Tensor]]):
    """Images, masks and samples in one order; `image_set[indices]` is a whole batch.

    Attributes:
        images: uint8 (N, C, H, W), an array in memory or mapped from a file.
        masks: uint8 (N, 1, H, W), 1 = abnormal, or None for a set without ground truth.
        samples: N samples.
        labels: int64 (N,), 0 normal, 1 abnormal.
        scaling: bool (N,), which calibration normals set the scale of a score's parts; None for the other sets.
    """

    scaling: NDArray[np.bool_] | None = None

    def __init__(
        self, images: NDArray[np.uint8], samples: Sequence[Sample], masks: NDArray[np.uint8] | None = None
    ) -> None:
        self.images = images
        self.samples = list(samples)
        self.masks = masks
        self.labels = np.array([sample.label for sample in samples], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: NDArray[np.int64]) -> dict[str, Tensor]:
        """A batch.

        Args:
            index: int64 (B,).

        Returns:
            `image` uint8 (B, C, H, W), `label` int64 (B,), `index` int64 (B,) and, for a set with ground
            truth, `mask` uint8 (B, 1, H, W); of the calibration set `scaling` bool (B,).
        """
        batch = {
            "image": torch.from_numpy(self.images[index]),
            "label": torch.from_numpy(self.labels[index]),
            "index": torch.from_numpy(np.array(index)),
        }
        if self.masks is not None:
            batch["mask"] = torch.from_numpy(self.masks[index])
        if self.scaling is not None:
            batch["scaling"] = torch.from_numpy(self.scaling[index])
        release(self.images, self.masks)
        return batch


class Donors:
    """The images of a set, for augmentations that paste from another image."""

    def __init__(self, image_set: ImageSet) -> None:
        self._images = image_set.images

    def __len__(self) -> int:
        return len(self._images)

    def __call__(self, index: Tensor) -> Tensor:
        """Images as they are stored: int64 (K,) on the CPU -> uint8 (K, C, H, W) on the CPU."""
        return torch.from_numpy(self._images[index.numpy()])


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
    """Decode samples into an ImageSet.

    Args:
        samples: what to decode; when any has a mask, the set has masks, zero for those without.
        decode: sample -> (image uint8 (C, H, W), mask uint8 (1, H, W) or None); thread-safe.
        shape: (C, H, W).
        label: what to call these samples in messages.
        skip_unreadable: leave unreadable files out, with a warning, instead of raising.
        store: makes the two stores, of images and of masks: `MemoryStore`, or a partial `FileStore`.

    Raises:
        UserError: a file cannot be used, or there is no room for the mapped file.
    """
    _, height, width = shape
    images = store(len(samples), shape)
    masks = store(len(samples), (1, height, width)) if any(sample.mask for sample in samples) else None
    nothing_abnormal = np.zeros((1, height, width), dtype=np.uint8)
    kept: list[Sample] = []
    for sample, (image, mask) in decode_all(samples, decode, label, skip_unreadable):
        images.append(image)
        if masks is not None:
            masks.append(nothing_abnormal if mask is None else mask)
        kept.append(sample)
    return ImageSet(images.finish(), kept, None if masks is None else masks.finish())
