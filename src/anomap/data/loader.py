"""A training loader that can resume in the middle of an epoch."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from anomap.data.sampler import TrainBatches


class TrainLoader(DataLoader[dict[str, Tensor]]):
    """Counts the batches it has yielded; Lightning keeps its state in checkpoints.

    The order is a pure function of seed and epoch, so epoch and count are enough to resume.
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
        """Epoch and number of batches yielded."""
        return {"epoch": self.order.epoch, "batches": self.given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Resume there."""
        self.order.start = (state["epoch"], state["batches"])
