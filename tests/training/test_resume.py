"""A training that was stopped and goes on ends as if it had never stopped: bit for bit."""

import errno
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from anomap.commands.train import train
from anomap.detection.checkpoint import read
from anomap.errors import Stopped, UserError
from anomap.runs.folder import RunFolder
from anomap.training import steps as pace
from anomap.training.checkpoints import goes_on
from anomap.training.module import AdversarialTraining
from anomap.training.stopping import Stop
from tests import tiny
from tests.training.resuming import DATA, Whole, assert_same, steps, stop_and_go_on

pytestmark = pytest.mark.thorough


Wholes = Callable[..., Whole]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Wholes:
    """`whole("adgan")` is one, made once."""
    data = tiny.write_folder(tmp_path_factory.mktemp("data"), train=16)
    made: dict[Any, Whole] = {}

    def make(model: str, *overrides: str) -> Whole:
        if (model, overrides) not in made:
            config = tiny.config(f"model={model}", f"data.root={data}", *DATA, *overrides)
            folder = tmp_path_factory.mktemp("whole")
            with steps() as taken:
                metrics = train(config, folder)
            made[model, overrides] = Whole(config, folder, metrics, len(taken))
        return made[model, overrides]

    return make


@pytest.mark.parametrize(("after", "by"), [(1, signal.SIGINT), (3, signal.SIGTERM)])
def test_stopped_inside_an_epoch_or_in_its_last_step(whole: Wholes, tmp_path: Path, after: int, by: int) -> None:
    """Four steps make an epoch."""
    run = whole("ganomaly", "model.optimizer.schedule=cosine")
    assert run.steps == 8
    stop_and_go_on(run, tmp_path, after, by)


@pytest.mark.parametrize("after", [2, 7, 13])
def test_stopped_in_stage_1_between_the_stages_and_in_stage_2(whole: Wholes, tmp_path: Path, after: int) -> None:
    run = whole("adgan")
    assert run.steps == 16
    stop_and_go_on(run, tmp_path, after)


BY_STEPS = ("trainer.max_epochs=null", "model.steps=6", "trainer.check_val_every_n_epoch=null")


@pytest.mark.parametrize("after", [1, 3, 4, 5])
def test_a_training_that_is_counted_in_steps(whole: Wholes, tmp_path: Path, after: int) -> None:
    """Six steps end in the middle of the second epoch of four."""
    run = whole("ganomaly", *BY_STEPS, "model.optimizer.schedule=one_cycle")
    assert run.steps == run.metrics["steps"] == 6
    assert run.metrics["epochs"] == 2
    stop_and_go_on(run, tmp_path, after)


@pytest.mark.slow
def test_stopped_at_the_end_of_an_epoch_that_is_no_pause(whole: Wholes, tmp_path: Path) -> None:
    stop_and_go_on(whole("ganomaly", *BY_STEPS, "model.steps=10"), tmp_path, 3)


def test_a_schedule_per_epoch_moves_once_per_epoch_when_resumed(whole: Wholes, tmp_path: Path) -> None:
    run = whole("ganomaly", "model.optimizer.schedule=cosine", "model.optimizer.interval=epoch")
    stop_and_go_on(run, tmp_path, 3)


def test_killed_after_a_pause_it_goes_on_from_there(
    whole: Wholes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = whole("adgan", *BY_STEPS, "model.stage1.steps=6")
    monkeypatch.setattr(pace, "BETWEEN_PAUSES", 4)  # an epoch of four steps ends with a checkpoint
    step, taken = AdversarialTraining.training_step, []

    def killed(self: AdversarialTraining, batch: Any, index: int) -> None:
        taken.append(index)
        if len(taken) == 11:
            raise MemoryError
        step(self, batch, index)

    monkeypatch.setattr(AdversarialTraining, "training_step", killed)
    with pytest.raises(MemoryError):
        train(run.config, tmp_path)
    monkeypatch.setattr(AdversarialTraining, "training_step", step)
    with steps() as rest:
        metrics = train(run.config, tmp_path)
    assert len(rest) == 2  # stage 1 was done, and four steps of stage 2 are in its checkpoint
    assert_same(run.folder, tmp_path, run.metrics, metrics)


@pytest.mark.slow
def test_stopped_where_no_epoch_is_watched(whole: Wholes, tmp_path: Path) -> None:
    stop_and_go_on(whole("ganomaly", "trainer.check_val_every_n_epoch=5"), tmp_path, 5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("model", tiny.TRAINED)
def test_every_method_stopped_in_every_step(model: str, whole: Wholes, tmp_path: Path) -> None:
    run = whole(model)
    for after in range(run.steps):
        stop_and_go_on(run, tmp_path / str(after), after)


@pytest.mark.slow
def test_stopped_again_and_again(whole: Wholes, tmp_path: Path) -> None:
    run = whole("ganomaly", "model.optimizer.schedule=cosine")
    for _ in range(run.steps - 1):
        with steps(signal.SIGTERM, 0) as taken, pytest.raises(Stopped):
            train(run.config, tmp_path)
        assert len(taken) == 1
    assert_same(run.folder, tmp_path, run.metrics, train(run.config, tmp_path))


def test_noise_depends_on_its_place_alone(whole: Wholes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that draws from the global generator draws the same after it was resumed, and differently in each step."""
    drawn: list[float] = []
    run = whole("ganomaly", "model.optimizer.schedule=cosine")
    step = AdversarialTraining.configure_optimizers

    def listening(self: AdversarialTraining) -> Any:
        generate = self.objective.generate

        def noisy(batch: Any) -> Any:
            drawn.append(float(torch.rand(())))
            return generate(batch)

        self.objective.generate = noisy
        return step(self)

    monkeypatch.setattr(AdversarialTraining, "configure_optimizers", listening)
    train(run.config, tmp_path / "a")
    expected, drawn[:] = list(drawn), []
    with steps(signal.SIGTERM, 4), pytest.raises(Stopped):
        train(run.config, tmp_path / "b")
    train(run.config, tmp_path / "b")
    assert drawn == expected
    assert len(set(drawn)) == run.steps


# --- what counts as the same run ---


def test_only_what_does_not_change_the_training_may_change(whole: Wholes) -> None:
    run = whole("ganomaly", "model.optimizer.schedule=cosine")
    path, config = RunFolder(run.folder).last_checkpoint, run.config
    assert goes_on(path, config)
    assert goes_on(path, {**config, "trainer": {**config["trainer"], "accelerator": "gpu"}, "logger": {"x": 1}})
    assert goes_on(path, {**config, "controls": True, "figures": True})
    assert not goes_on(path, {**config, "seed": 1})
    assert not goes_on(path, {**config, "trainer": {**config["trainer"], "max_epochs": 9}})
    assert not goes_on(path.with_name("none.ckpt"), config)


def test_a_finished_or_another_run_is_not_gone_on_with(whole: Wholes, tmp_path: Path) -> None:
    run = whole("ganomaly", "model.optimizer.schedule=cosine")
    with steps(signal.SIGTERM, 1), pytest.raises(Stopped):
        train({**run.config, "seed": 3}, tmp_path)
    (tmp_path / "checkpoints" / ".tmp-left").write_bytes(b"half a checkpoint")
    for _ in range(2):  # after another run, and after a finished one
        with steps() as taken:
            metrics = train(run.config, tmp_path)
        assert len(taken) == run.steps
        assert_same(run.folder, tmp_path, run.metrics, metrics)
    assert not list(tmp_path.rglob(".tmp-*"))


def test_what_another_run_left_is_gone_before_the_first_epoch_ends(
    whole: Wholes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else a run killed in its first epoch would be taken for finished, or resumed from the other's weights."""
    run = whole("ganomaly", "model.optimizer.schedule=cosine")
    train(run.config, tmp_path)

    class Killed(BaseException):
        pass

    def killed(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr(AdversarialTraining, "training_step", killed)
    with pytest.raises(Killed):
        train({**run.config, "seed": 5}, tmp_path)
    assert not RunFolder(tmp_path).finished
    assert not RunFolder(tmp_path).last_checkpoint.exists()


# --- signals ---


def test_a_second_signal_is_obeyed_at_once_and_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Stop() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        with pytest.raises(Stopped) as stopped:
            os.kill(os.getpid(), signal.SIGINT)
        stop.signal = None
    assert stopped.value.signal == signal.SIGINT
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_signal_that_nobody_looked_for_is_not_lost() -> None:
    with pytest.raises(Stopped), Stop():
        os.kill(os.getpid(), signal.SIGTERM)


def test_several_processes_ask_each_other_every_tenth_step_only() -> None:
    asked: list[bool] = []

    def reduce(decision: bool, all: bool) -> bool:
        assert not all
        asked.append(decision)
        return True  # another process was signalled

    trainer: Any = SimpleNamespace(world_size=2, strategy=SimpleNamespace(reduce_boolean_decision=reduce))
    assert [step for step in range(1, 31) if Stop().check(trainer, step)] == [10, 20, 30]
    assert asked == [False] * 3


def test_signals_are_left_alone_outside_the_main_thread() -> None:
    before, found = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with Stop():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


# --- a full disk ---


def test_a_full_disk_is_one_line_and_keeps_the_previous_checkpoint(
    whole: Wholes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "BETWEEN_PAUSES", 1)  # each epoch ends with a checkpoint
    run = whole("ganomaly", "model.optimizer.schedule=cosine")
    path = RunFolder(tmp_path).last_checkpoint
    fsync, written = os.fsync, []

    def full(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError) as raised:
        train(run.config, tmp_path)
    monkeypatch.setattr(os, "fsync", fsync)
    assert str(path) in str(raised.value)
    assert "No space left" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert read(path)["epoch"] == 0
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
    with steps() as rest:
        metrics = train(run.config, tmp_path)
    assert len(rest) == run.steps // 2
    assert_same(run.folder, tmp_path, run.metrics, metrics)
