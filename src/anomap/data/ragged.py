"""Images of different sizes in one store: in memory, or in one mapped file."""

import math
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from anomap.data.decode import FileStore

Uint8 = NDArray[np.uint8]


class Ragged(Sequence[Uint8]):
    """Read-only images (C, H, W), each of its own size; like an array where several of one size are asked for."""

    def __init__(self, images: Sequence[Uint8], mapped: Uint8 | None = None) -> None:
        self._images, self.mapped = images, mapped

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int | NDArray[np.int64]) -> Uint8:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One (C, H, W), or those of an array of indices (B, C, H, W); ValueError if their sizes differ."""
        if isinstance(index, int | np.integer):
            return self._images[index]
        return np.stack([self._images[i] for i in index])

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W), as of an array; ValueError if sizes differ."""
        found = {image.shape for image in self._images}
        if len(found) != 1:
            raise ValueError(f"{len(self)} images of {len(found)} sizes")
        return len(self), *found.pop()

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """Of all images."""
        return np.dtype(np.uint8)

    @property
    def shapes(self) -> NDArray[np.int64]:
        """(N, 2), height and width of each."""
        return np.array([image.shape[1:] for image in self._images], np.int64).reshape(-1, 2)


class RaggedStore:
    """Collects images (C, H, W); in the file, if one is given."""

    def __init__(self, file: FileStore | None = None) -> None:
        self._file, self._kept = file, list[Uint8]()
        self._shapes: list[tuple[int, ...]] = []

    def append(self, item: Uint8) -> None:
        self._shapes.append(item.shape)
        if self._file is None:
            self._kept.append(item)
        else:
            self._file.append(item.reshape(-1))

    def finish(self) -> Ragged:
        """What was collected."""
        if self._file is None:
            return Ragged(self._kept)
        mapped = self._file.finish()
        ends = list(accumulate(map(math.prod, self._shapes), initial=0))
        parts = zip(ends[:-1], ends[1:], self._shapes, strict=True)
        return Ragged([mapped[start:end].reshape(shape) for start, end, shape in parts], mapped)
