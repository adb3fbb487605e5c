"""Orders of whole batches: pure functions of (seed, epoch, rank), so resuming continues the same order."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

Index = NDArray[np.int64]


class TrainBatches(Sampler[Index]):
    """Shuffled batches of even sizes; every sample in every epoch.

    Batch sizes differ by at most one and none is 1 where that can be avoided: batch normalisation cannot
    train on a single sample, and dropping the last samples would waste normal images. With several ranks the
    shards have equal sizes (the last ones are filled up from the start of the order): ranks step together.
    """

    def __init__(self, count: int, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1) -> None:
        self.count, self.batch_size, self.seed, self.rank, self.world_size = (
            count,
            batch_size,
            seed,
            rank,
            world_size,
        )
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; Lightning calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        shard = math.ceil(self.count / self.world_size)
        batches = math.ceil(shard / self.batch_size)
        return min(batches, max(1, shard // 2)) if self.batch_size > 1 else batches

    def __iter__(self) -> Iterator[Index]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.count)
        shard = math.ceil(self.count / self.world_size)
        order = np.resize(order, shard * self.world_size)  # repeats from the start
        yield from np.array_split(order[self.rank :: self.world_size], len(self))


class SequentialBatches(Sampler[Index]):
    """Batches in stored order; over all ranks every sample exactly once, without padding.

    A rank may have one batch less than another, so nothing that all ranks must join may depend on a batch.
    With `at_most`, so many samples only, spread evenly.
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
