"""Metrics over batches and processes: what one process would have found, whoever saw what."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, multiprocessing

from anomap.detection.gathered import GatheredRows, RankingMetric
from anomap.detection.metrics import auroc
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


def test_scores_far_outside_the_unit_interval_rank_as_they_are() -> None:
    scores, labels = torch.tensor([18.0, 18.5, 20.0, 21.0]), torch.tensor([0, 0, 1, 1])
    for start in range(4):  # one by one, where a sigmoid would make them equal
        metric = RankingMetric()
        for i in (*range(start, 4), *range(start)):
            metric.update(scores[i : i + 1], labels[i : i + 1])
        assert metric.compute() == [1.0]
    close = RankingMetric()
    close.update(torch.tensor([1.0, 1.0 + 1e-12], dtype=torch.float64), torch.tensor([0, 1]))
    assert close.compute() == [1.0]


def test_each_column_is_ranked_by_itself_whatever_the_batches() -> None:
    generator = np.random.default_rng(0)
    scores, labels = generator.normal(size=(150, 3)) * 100, generator.integers(0, 2, 150)
    expected = [auroc(scores[:, k], labels) for k in range(3)]
    for size in (1, 7, 150):  # 150 batches of one are more than are kept apart
        metric = RankingMetric(3)
        for start in range(0, 150, size):
            part = slice(start, start + size)
            metric.update(torch.from_numpy(scores[part]), torch.from_numpy(labels[part]))
        assert metric.compute() == expected
        metric.reset()
        assert len(metric.table()) == 0


@pytest.mark.parametrize("label", [0, 1])
def test_a_missing_class_is_none(label: int) -> None:
    metric = RankingMetric(2)
    metric.update(torch.rand(3, 2), torch.full((3,), label))
    assert metric.compute() == [None, None]


def test_a_score_that_is_no_number_is_refused() -> None:
    metric = RankingMetric()
    metric.update(torch.tensor([1.0, torch.nan]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="not finite"):
        metric.compute()


def ranking(scores: list[float], labels: list[int]) -> RankingMetric:
    metric = RankingMetric()
    if scores:
        metric.update(torch.tensor(scores), torch.tensor(labels))
    return metric


def test_two_processes_rank_as_one() -> None:
    """The first has normals only, the second abnormals only; the third has seen nothing."""
    metrics = [ranking([0.0, 2.0, 5.0], [0, 0, 0]), ranking([1.0, 6.0], [1, 1]), ranking([], [])]
    expected = auroc([0, 2, 5, 1, 6], [0, 0, 0, 1, 1])
    merged = ranking([], [])
    for metric in metrics:
        merged.merge_state(metric)
    assert merged.compute() == [expected]
    share(metrics)
    for metric in metrics[:2]:
        assert metric.compute() == [expected]
    scores, labels = metrics[2].scores_and_labels()
    assert (scores[:, 0].tolist(), labels.tolist()) == ([0, 2, 5, 1, 6], [0, 0, 0, 1, 1])
    assert len(metrics[2].table()) == 0  # afterwards each has its own again
    metrics[2].update(torch.tensor([7.0]), torch.tensor([1]))
    assert len(metrics[2].table()) == 1


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
    rows = GatheredRows(2)
    if rank == 0:
        rows.update(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    table = rows.gathered()
    metric = ranking([0.0, 2.0, 5.0], [0, 0, 0]) if rank == 0 else ranking([1.0, 6.0], [1, 1])
    part = pixels(64, slice(1, 4) if rank == 0 else slice(4, 6))
    found: dict[str, Tensor | Any] = {"table": table, "auroc": metric.compute(), "pixel": part.compute()}
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_real_processes_find_the_same(tmp_path: Path) -> None:
    multiprocessing.spawn(process, (2, str(tmp_path)), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt")
        assert found["table"].tolist() == [[1, 2], [3, 4]]
        assert found["auroc"] == [auroc([0, 2, 5, 1, 6], [0, 0, 0, 1, 1])]
        assert found["pixel"] == pytest.approx(pixels(64, slice(1, 6)).compute(), abs=1e-12)
