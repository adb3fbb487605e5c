"""A training loader that can go on in the middle of an epoch."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from anomap.data.sampler import TrainBatches


class TrainLoader(DataLoader[dict[str, Tensor]]):
    """Knows how many batches of which epoch it has given out; Lightning keeps that in checkpoints.

    The order is a pure function of the seed and the epoch, so these two numbers are all it takes to go on.
    """

    given = 0

    @property
    def order(self) -> TrainBatches:
        """Its sampler."""
        assert isinstance(self.sampler, TrainBatches)
        return self.sampler

    def __iter__(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.given = self.order.left_out
        for batch in super().__iter__():
            self.given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Where it is."""
        return {"epoch": self.order.epoch, "batches": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self.order.start = (state["epoch"], state["batches"])
