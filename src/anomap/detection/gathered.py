"""Rows over batches and processes, as a `torchmetrics.Metric`: nothing that prediction needs imports it, it takes seconds."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

_PIECES = 64  # small tensors kept between the large ones of each batch would scatter the heap


class GatheredRows(Metric):
    """A table of rows (N, C) that grows batch by batch; those of all processes are concatenated in the order of ranks."""

    full_state_update = False
    rows: list[Tensor] | Tensor

    def __init__(self, columns: int, dtype: torch.dtype = torch.float32, **options: Any) -> None:
        super().__init__(**options)
        self.columns, self.row_dtype = columns, dtype
        self.add_state("rows", [], dist_reduce_fx="cat")

    def update(self, rows: Tensor) -> None:
        """Add rows (B, C), kept on the metric's device."""
        self.rows = [*self.rows, rows.detach().to(self.device, self.row_dtype)]
        if len(self.rows) > _PIECES:
            self.rows = [self.table()]

    def table(self) -> Tensor:
        """The rows (N, C) of this process; between `sync` and `unsync` those of all."""
        nothing = torch.empty(0, self.columns, dtype=self.row_dtype, device=self.device)
        return torch.cat([nothing, *([self.rows] if isinstance(self.rows, Tensor) else self.rows)])

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gather; a process that has seen nothing takes part with an empty table."""
        if not self._is_synced:
            self.rows = [self.table()]
        super().sync(*args, **kwargs)

    def gathered(self) -> Tensor:
        """The rows (N, C) of all processes, on the CPU; every process must call this."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, process_group=self.process_group):
            return self.table().cpu()

    def compute(self) -> Any:
        """The rows of all processes, on the metric's device."""
        return self.table()
