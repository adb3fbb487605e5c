"""Metrics over batches and processes: what one process would have found, whoever saw what."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, multiprocessing

from anomap.detection.gathered import GatheredRows
from anomap.detection.pixel_metrics import PixelMetrics


def share(metrics: list[Any]) -> None:
    """Let metrics believe that each lives in a process of its own; their states are taken as they are now."""
    names = metrics[0]._reductions
    tables = {
        name: [metric.table() if name == "rows" else getattr(metric, name) for metric in metrics] for name in names
    }
    for metric in metrics:
        metric.distributed_available_fn = lambda: True
        metric.dist_sync_fn = lambda state, group: tables["rows" if state.ndim else "dropped_bits"]


def rows(*given: list[float]) -> GatheredRows:
    table = GatheredRows(2)
    if given:
        table.update(torch.tensor(given))
    return table


def test_rows_stay_in_order_whatever_the_batches() -> None:
    values = torch.rand(150, 2)
    for size in (1, 7, 150):  # 150 batches of one are more than are kept apart
        table = GatheredRows(2)
        for part in values.split(size):
            table.update(part)
        assert torch.equal(table.gathered(), values)
        table.reset()
        assert len(table.table()) == 0


def test_processes_gather_the_rows_of_all() -> None:
    """The third has seen nothing."""
    tables = [rows([0.0, 0.0], [5.0, 0.0]), rows([1.0, 1.0]), rows()]
    merged = rows()
    for table in tables:
        merged.merge_state(table)
    assert sorted(merged.table().tolist()) == [[0, 0], [1, 1], [5, 0]]
    share(tables)
    for table in tables:
        assert table.gathered().tolist() == [[0, 0], [5, 0], [1, 1]]
    assert len(tables[2].table()) == 0  # afterwards each has its own again
    tables[2].update(torch.tensor([[7.0, 1.0]]))
    assert len(tables[2].table()) == 1


def scene(size: int = 24) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    masks = np.zeros((6, size, size), np.uint8)
    masks[1, 2:9, 3:7] = masks[4, 10:20, 10:12] = masks[5, 0:3, 0:3] = 1
    return (generator.normal(size=masks.shape) + 2 * masks).astype(np.float32), masks


def pixels(bins: int, part: slice = slice(None)) -> PixelMetrics:
    metric, (maps, masks) = PixelMetrics(bins), scene()
    if len(maps[part]):
        metric.update(maps[part], masks[part])
    return metric


@pytest.mark.parametrize("bins", [64, 2**18])
def test_pixels_of_several_processes_count_as_of_one(bins: int) -> None:
    whole = pixels(bins)
    parts = [pixels(bins, part) for part in (slice(1), slice(1, 5), slice(5, 6), slice(0))]
    if bins == 64:
        assert len({int(part.dropped_bits) for part in parts}) > 1  # they differ in resolution
    merged = PixelMetrics(bins)
    for part in parts:
        merged.merge_state(part)
    assert merged.compute() == pytest.approx(whole.compute(), abs=1e-12)
    share(parts)
    for part in parts[:3]:
        assert part.compute() == pytest.approx(whole.compute(), abs=1e-12)


def process(rank: int, world_size: int, folder: str) -> None:
    """What one of several processes does; the last has no images."""
    distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=world_size)
    table = (rows([1.0, 2.0], [3.0, 4.0]) if rank == 0 else rows()).gathered()
    part = pixels(64, slice(1, 4) if rank == 0 else slice(4, 6))
    found: dict[str, Tensor | Any] = {"table": table, "pixel": part.compute()}
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_real_processes_find_the_same(tmp_path: Path) -> None:
    multiprocessing.spawn(process, (2, str(tmp_path)), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found["table"].tolist() == [[1, 2], [3, 4]]
        assert found["pixel"] == pytest.approx(pixels(64, slice(1, 6)).compute(), abs=1e-12)
