"""What is said while a model trains, and what it costs."""

import logging
import time
from types import SimpleNamespace
from typing import Any

import pytest

from anomap.training import progress, said
from anomap.training.monitoring import AUROC
from anomap.training.progress import Progress
from anomap.training.steps import Pace


def trainer(step: int, **metrics: float) -> Any:
    return SimpleNamespace(
        global_step=2 * step, max_epochs=3, num_training_batches=10, callbacks=[], callback_metrics=metrics
    )


class Module:
    """Counts how often its losses are read, which waits for the device."""

    read = 0

    def mean_losses(self) -> dict[str, float]:
        self.read += 1
        return {"generator loss/total": 0.5, "generator loss/attention": 7.0}


def test_a_line_every_ten_seconds_and_the_losses_read_no_oftener(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    callback, module = Progress(), Module()
    with caplog.at_level(logging.INFO):
        for step in range(1, 26):
            now[0] += 1
            callback.on_train_batch_end(trainer(step, **{AUROC: 0.9}), module, None, None, 0)  # pyright: ignore
    assert [record.message for record in caplog.records] == [
        "step 10 of 30  generator loss 0.5000",  # no AUROC of an epoch long ago
        "step 20 of 30  generator loss 0.5000",
    ]
    assert module.read == 2


def test_work_without_steps_is_said_to_go_on_until_it_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(said, "SECONDS", 0.02)

    def fail() -> None:
        with said.said("statistics"):
            time.sleep(0.2)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    count = len(caplog.messages)
    assert caplog.messages[:2] == ["statistics", "statistics: 0 s so far"]
    time.sleep(0.1)
    assert len(caplog.messages) == count


def test_the_auroc_is_said_when_it_is_fresh(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        Progress().on_validation_end(trainer(20, **{AUROC: 0.9}), Module())  # pyright: ignore
        Progress().on_validation_end(trainer(20), Module())  # pyright: ignore
    assert [record.message for record in caplog.records] == ["step 20 of 30  AUROC test (monitoring) 0.9000"]


@pytest.mark.parametrize(("batches", "expected"), [(1, 49), (10, 4), (49, 1), (50, 0), (800, 0)])
def test_small_sets_pause_every_fifty_steps_large_ones_every_epoch(batches: int, expected: int) -> None:
    """`expected`: the first epoch with a pause."""
    from anomap.training import steps

    def pauses(epoch: int) -> bool:
        state = SimpleNamespace(current_epoch=epoch, num_training_batches=batches, max_epochs=1000, callbacks=[])
        return steps.pauses(state)  # pyright: ignore[reportArgumentType]

    assert next(epoch for epoch in range(100) if pauses(epoch)) == expected


@pytest.mark.parametrize(("batches", "epochs", "warned"), [(1, 49, True), (1, 50, False), (7, 2, True)])
def test_too_few_steps_are_said_with_numbers(
    batches: int, epochs: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    state: Any = SimpleNamespace(current_epoch=0, num_training_batches=batches, max_epochs=epochs, callbacks=[])
    Pace({"max_epochs": epochs}, None).on_train_start(state, None)  # pyright: ignore[reportArgumentType]
    assert (f"only {batches * epochs} training steps" in caplog.text) == warned
