"""Orders of whole batches: pure functions of (seed, epoch, rank), so that resuming continues the same order."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

Index = NDArray[np.int64]


@dataclass(eq=False)
class TrainBatches(Sampler[Index]):
    """Shuffled batches whose sizes differ by at most one; every sample once in every epoch, over all ranks.

    All ranks take the same number of steps. If possible no batch is a single sample: batch normalisation cannot train on it.
    """

    count: int
    batch_size: int
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    epoch: int = 0
    start: tuple[int, int] = (0, 0)  # (epoch, batches): a resumed run skips so many batches of that epoch

    def set_epoch(self, epoch: int) -> None:  # Lightning calls it
        self.epoch = epoch

    @property
    def left_out(self) -> int:
        """Batches that the next iteration skips."""
        return self.start[1] if self.start[0] == self.epoch else 0

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        wanted = math.ceil(self.count / (self.batch_size * self.world_size))
        return min(wanted, max(1, self.count // (min(self.batch_size, 2) * self.world_size)))

    def __iter__(self) -> Iterator[Index]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.count)
        shares = np.array_split(order, len(self) * self.world_size)
        yield from shares[self.rank :: self.world_size][self.left_out :]


@dataclass(eq=False)
class TileBatches(TrainBatches):
    """`TrainBatches` whose items are the `windows` of their examples in this epoch, (B, 4): see `TrainingWindows.at`."""

    windows: Callable[[int], Index] = field(kw_only=True)

    def __iter__(self) -> Iterator[Index]:
        placed = self.windows(self.epoch)
        return (placed[index] for index in super().__iter__())


class SequentialBatches(list[Index]):
    """Batches in stored order; over all ranks every sample, or `at_most` spread evenly, exactly once, without padding.

    Ranks may differ by one batch, so no step of a loop over these batches may wait for the other ranks.
    """

    def __init__(
        self, count: int, batch_size: int, rank: int = 0, world_size: int = 1, at_most: int | None = None
    ) -> None:
        chosen = count if at_most is None else min(count, at_most)
        index: Index = (np.arange(chosen, dtype=np.int64) * count // max(chosen, 1))[rank::world_size]
        super().__init__(index[start : start + batch_size] for start in range(0, len(index), batch_size))


class TrainLoader(DataLoader[dict[str, Tensor]]):
    """Counts the batches of `TrainBatches` that it has yielded; Lightning keeps this state in checkpoints to resume."""

    sampler: TrainBatches  # pyright: ignore[reportIncompatibleVariableOverride]
    given = 0

    def __iter__(self) -> Iterator[dict[str, Tensor]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.given = self.sampler.left_out
        for batch in super().__iter__():
            self.given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.sampler.epoch, "batches": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.sampler.start = (state["epoch"], state["batches"])
