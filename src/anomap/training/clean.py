"""The pass over clean training images that closed-form statistics and feature caches need."""

from collections.abc import Iterator

import torch
from torch import Tensor

from anomap.data.datamodule import AnomalyDataModule
from anomap.data.imageset import to_float
from anomap.data.sampler import SequentialBatches


class CleanBatches:
    """All training images, or a sample of their tiles, (B, C, H, W) in [0, 1], in stored order, each time anew.

    UserError if there are none.
    """

    def __init__(self, data: AnomalyDataModule, device: torch.device | str = "cpu") -> None:
        data.train_dataloader()  # says so if there are none
        self.images, self.batch_size, self.device = data.clean, data.batch_size, device

    def __iter__(self) -> Iterator[Tensor]:
        for index in SequentialBatches(len(self.images), self.batch_size):
            yield to_float(self.images[index]["image"].to(self.device))  # which they reach as bytes
