"""Runs that are stopped on purpose, and what must be equal afterwards."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from anomap.commands.train import train
from anomap.detection.checkpoint import read
from anomap.errors import Stopped
from anomap.runs.folder import RunFolder
from anomap.training.module import AdversarialTraining

TIMES = ("train_seconds", "train_images_per_second", "score_images_per_second", "peak_rss_mb")
DATA = ("logger=none", "controls=false", "trainer.max_epochs=2")


@dataclass
class Whole:
    """A run that was never stopped."""

    config: dict[str, Any]
    folder: Path
    metrics: dict[str, Any]
    steps: int


@contextmanager
def steps(by: int | None = None, after: int = -1) -> Iterator[list[int]]:
    """Counts training steps, and sends this process the signal `by` in the step `after`; counting starts at 0."""
    taken: list[int] = []
    step = AdversarialTraining.training_step

    def counted(self: AdversarialTraining, batch: Any, index: int) -> None:
        if by is not None and len(taken) == after:
            os.kill(os.getpid(), by)
        step(self, batch, index)
        taken.append(index)

    with patch.object(AdversarialTraining, "training_step", counted):
        yield taken


def differences(a: Any, b: Any, where: str = "") -> list[str]:
    """Places where two checkpoints differ in as much as a bit, times aside."""
    if isinstance(a, torch.Tensor):
        return [] if isinstance(b, torch.Tensor) and torch.equal(a, b) else [where]
    if isinstance(a, Mapping):
        if a.keys() != b.keys():
            return [f"{where}: {set(a) ^ set(b)}"]
        return [found for key in a if key != "seconds" for found in differences(a[key], b[key], f"{where}/{key}")]
    if isinstance(a, Sequence) and not isinstance(a, str):
        if len(a) != len(b):
            return [where]
        return [found for n, pair in enumerate(zip(a, b, strict=True)) for found in differences(*pair, f"{where}/{n}")]
    return [] if a == b else [f"{where}: {a}, {b}"]


def assert_same(first: Path, second: Path, metrics: Mapping[str, Any], others: Mapping[str, Any]) -> None:
    """Two finished runs of two folders: checkpoints (weights, optimisers, detector), metrics and scores, bit for bit."""
    kept = {key: value for key, value in metrics.items() if key not in (*TIMES, "checkpoint")}
    assert kept == {key: value for key, value in others.items() if key not in (*TIMES, "checkpoint")}
    a, b = RunFolder(first), RunFolder(second)
    assert a.scores.read_bytes() == b.scores.read_bytes()
    for one, other in ((a.last_checkpoint, b.last_checkpoint), (a.stage1.last_checkpoint, b.stage1.last_checkpoint)):
        assert one.is_file() == other.is_file()
        if one.is_file():
            assert differences(read(one), read(other)) == []


def stop_and_go_on(run: Whole, folder: Path, after: int, by: int = signal.SIGTERM) -> None:
    with steps(by, after) as before, pytest.raises(Stopped) as stopped:
        train(run.config, folder)
    assert stopped.value.signal == by
    assert len(before) == after + 1  # the step was finished, and no other was begun
    assert not RunFolder(folder).finished
    with steps() as rest:
        metrics = train(run.config, folder)
    assert len(rest) == run.steps - after - 1  # none was made twice
    assert_same(run.folder, folder, run.metrics, metrics)
