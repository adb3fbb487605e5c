"""Orders of whole batches: pure functions of (seed, epoch, rank), so resuming continues the same order."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

Index = NDArray[np.int64]


class TrainBatches(Sampler[Index]):
    """Shuffled batches of even sizes; every sample once in every epoch, over all ranks.

    Batch sizes differ by at most one. No batch has a single sample where that can be avoided, because batch
    normalisation cannot train on it. Every rank gets a share of each step, so all take the same number of steps.

    Attributes:
        start: (epoch, batches): a resumed run skips so many batches at the beginning of that epoch.
    """

    def __init__(self, count: int, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.epoch = 0
        self.start: tuple[int, int] = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; Lightning calls it."""
        self.epoch = epoch

    @property
    def left_out(self) -> int:
        """Batches that the next iteration skips."""
        return self.start[1] if self.start[0] == self.epoch else 0

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        smallest = 1 if self.batch_size == 1 else 2
        wanted = math.ceil(self.count / (self.batch_size * self.world_size))
        return min(wanted, max(1, self.count // (smallest * self.world_size)))

    def __iter__(self) -> Iterator[Index]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.count)
        shares = np.array_split(order, len(self) * self.world_size)
        yield from shares[self.rank :: self.world_size][self.left_out :]


class SequentialBatches(Sampler[Index]):
    """Batches in stored order; over all ranks every sample exactly once, without padding.

    Ranks may differ by one batch, so no step of a loop over these batches may wait for the other ranks. `at_most` limits
    the number of samples, spread evenly over the set.
    """

    def __init__(
        self, count: int, batch_size: int, rank: int = 0, world_size: int = 1, at_most: int | None = None
    ) -> None:
        self.batch_size = batch_size
        chosen = count if at_most is None else min(count, at_most)
        self.index: Index = (np.arange(chosen, dtype=np.int64) * count // max(chosen, 1))[rank::world_size]

    def __len__(self) -> int:
        return math.ceil(len(self.index) / self.batch_size)

    def __iter__(self) -> Iterator[Index]:
        for start in range(0, len(self.index), self.batch_size):
            yield self.index[start : start + self.batch_size]
