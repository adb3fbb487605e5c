"""The pass over clean training images that closed-form statistics and feature caches need."""

from collections.abc import Iterator

import torch
from torch import Tensor

from anomap.data.anomaly_data import AnomalyData
from anomap.data.imageset import ImageSet, to_float
from anomap.data.sampler import SequentialBatches
from anomap.data.samples import Sample


class CleanBatches:
    """All training images, or a sample of their tiles, (B, C, H, W) in [0, 1], in stored order, each time anew.

    With `at_most`, as many of them, spread evenly; or those of another set of `images`. UserError if there are none.
    """

    def __init__(
        self,
        data: AnomalyData,
        device: torch.device | str = "cpu",
        at_most: int | None = None,
        images: ImageSet | None = None,
    ) -> None:
        data.train_dataloader()  # says so if there are none
        self.images, self.device = data.clean if images is None else images, device
        self.order = SequentialBatches(len(self.images), data.batch_size, at_most=at_most)

    @property
    def samples(self) -> list[Sample]:
        """Those that the images are of, in the same order."""
        return [self.images.samples[place] for index in self.order for place in index]

    def __iter__(self) -> Iterator[Tensor]:
        for index in self.order:
            yield to_float(self.images[index]["image"].to(self.device))  # which they reach as bytes
