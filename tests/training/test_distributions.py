"""Histograms and the PR curve, read back from the event file."""

from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray
from torch.utils.tensorboard import SummaryWriter

from anomap.training.distributions import log_distributions

CURVE = "precision and recall/test (monitoring)"


def written(folder: Path, scores: list[float], labels: list[int]) -> EventAccumulator:
    writer = SummaryWriter(str(folder))
    log_distributions(writer, 30, np.array([1.0, 2.0]), np.array(scores), np.array(labels))
    writer.close()
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0, "histograms": 0})
    events.Reload()
    return events


def test_the_curve_is_that_of_the_ranks_however_far_out_the_scores_are(tmp_path: Path) -> None:
    # by score: abnormal, normal, abnormal, normal
    events = written(tmp_path, [50_000.0, -3.0, 7.0, 8.0], [1, 0, 1, 0])
    (event,) = events.Tensors(CURVE)
    assert event.step == 30
    *_, precision, recall = make_ndarray(event.tensor_proto)
    found = {(round(float(p), 3), float(r)) for p, r in zip(precision, recall, strict=True) if r}
    assert found == {(1.0, 0.5), (0.5, 0.5), (0.667, 1.0), (0.5, 1.0)}


def test_each_kind_has_a_histogram(tmp_path: Path) -> None:
    events = written(tmp_path, [5.0, 3.0, 7.0], [0, 0, 1])
    found = {tag: events.Histograms(tag)[0] for tag in events.Tags()["histograms"]}
    assert {tag: (event.step, event.histogram_value.num) for tag, event in found.items()} == {
        "scores/calibration normal": (30, 2),
        "scores/test normal": (30, 2),
        "scores/test abnormal": (30, 1),
    }


@pytest.mark.parametrize("labels", [[], [0, 0], [1, 1]])
def test_without_both_kinds_there_is_no_curve(labels: list[int], tmp_path: Path) -> None:
    events = written(tmp_path, [float(i) for i in range(len(labels))], labels)
    assert CURVE not in events.Tags()["tensors"]
    assert "scores/calibration normal" in events.Tags()["histograms"]
