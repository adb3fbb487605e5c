"""`anomap-train resume=RUN_DIR`, and commands that signals, a kill or a full disk end."""

import contextlib
import errno
import importlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf
from omegaconf.errors import InterpolationResolutionError

from anomap.cli import multirun, signals
from anomap.cli.resume import advice, arguments, configuration
from anomap.detection import checkpoint
from anomap.errors import Stopped, UserError
from anomap.runs.folder import RunFolder, read_metrics
from anomap.training.checkpoints import goes_on
from tests import tiny
from tests.in_process import in_process
from tests.training.resuming import assert_same

# --- arguments ---


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that has just begun."""
    folder = tmp_path / "a run,seed=0"
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra/config.yaml").write_text(yaml.safe_dump(stored()))
    return folder


def stored() -> dict[str, object]:
    return tiny.config("model=ganomaly", "seed=7")


def test_without_resume_nothing_changes() -> None:
    assert arguments(["model=adgan", "-m", "seed=0,1"]) == ["model=adgan", "-m", "seed=0,1"]
    assert arguments(["resume=null", "seed=1"]) == ["resume=null", "seed=1"]


def test_a_resumed_run_works_in_its_folder_and_leaves_its_configuration_alone(run: Path) -> None:
    given = [f"resume={run}", "trainer.accelerator=cpu", "logger=none"]
    assert arguments(given) == [
        f"hydra.run.dir='{run}'",
        "hydra.output_subdir=null",
        f"resume='{run}'",
        "trainer.accelerator=cpu",
        "logger=none",
    ]
    # as Lightning starts further processes: with the arguments above and more of its own
    again = arguments([*arguments(given), f'hydra.run.dir="{run}"', "hydra.job.name=train_ddp_process_1"])
    assert again[-1] == "hydra.job.name=train_ddp_process_1"
    assert again.index(f'hydra.run.dir="{run}"') > again.index(f"hydra.run.dir='{run}'")


@pytest.mark.parametrize("change", ["model=adgan", "seed=1", "+trainer.strategy=ddp", "data.root=x", "trainer=ddp_cpu"])
def test_what_would_make_it_another_run_is_refused(change: str, run: Path) -> None:
    with pytest.raises(UserError, match="own configuration") as raised:
        arguments([f"resume={run}", change])
    assert change in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_is_no_run_is_refused(tmp_path: Path, run: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        arguments([f"resume={tmp_path}/nowhere"])
    with pytest.raises(UserError, match="no run of anomap-train"):
        arguments([f"resume={tmp_path}"])
    (tmp_path / "multirun.yaml").touch()
    with pytest.raises(UserError, match=r"folder of a sweep.*hydra\.sweep\.dir="):
        arguments([f"resume={tmp_path}"])
    with pytest.raises(UserError, match="a sweep goes on when it is started again"):
        arguments(["-m", f"resume={run}"])


def test_the_stored_configuration_counts(run: Path) -> None:
    now = {**tiny.config("model=adgan", "trainer.accelerator=auto", "logger=none"), "resume": str(run)}
    found, folder = configuration(now, ["resume=x"])
    assert (found, folder) == ({**stored(), "resume": None}, run)
    found, _ = configuration(now, ["resume=x", "trainer.accelerator=auto", "logger=none"])
    assert found["trainer"]["accelerator"] == "auto"
    assert found["logger"] == {}
    assert found["model"]["name"] == "ganomaly"
    assert (found["controls"], found["figures"]) == (stored()["controls"], stored()["figures"])
    checkpoint.save(RunFolder(run).stage1.last_checkpoint, {"run": {**stored(), "seed": 8}})  # knows better
    assert configuration(now, [])[0]["seed"] == 8


@pytest.mark.parametrize("key", ["controls", "figures"])
def test_what_comes_after_the_training_may_change(key: str, run: Path) -> None:
    """A run that has no memory for the controls, or no room for figures, can still be finished."""
    before = {**stored(), key: True}
    (run / ".hydra/config.yaml").write_text(yaml.safe_dump(before))
    override = f"{key}=false"
    assert override in arguments([f"resume={run}", override])
    found, _ = configuration({**stored(), key: False, "resume": str(run)}, [f"resume={run}", override])
    assert found == {**before, key: False, "resume": None}
    checkpoint.save(RunFolder(run).last_checkpoint, {"run": before})
    assert goes_on(RunFolder(run).last_checkpoint, found)  # what was trained is not thrown away


def test_a_threshold_that_failed_can_be_replaced(run: Path) -> None:
    before = {**stored(), "threshold": {"strategy": "gaussian", "quantile": 0.95}}
    (run / ".hydra/config.yaml").write_text(yaml.safe_dump(before))
    overrides = ["threshold=manual", "threshold.value=3"]
    assert arguments([f"resume={run}", *overrides])[-2:] == overrides
    now = {**tiny.config(*overrides), "resume": str(run)}
    found, _ = configuration(now, overrides)
    assert found == {**before, "threshold": {"strategy": "manual", "value": 3}, "resume": None}
    checkpoint.save(RunFolder(run).last_checkpoint, {"run": before})
    assert goes_on(RunFolder(run).last_checkpoint, found)


def test_a_run_of_another_command_is_refused(run: Path) -> None:
    (run / ".hydra/config.yaml").write_text("command: predict")
    with pytest.raises(UserError, match="a run of anomap-predict"):
        configuration({**stored(), "resume": str(run)}, [])
    (run / ".hydra/config.yaml").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        configuration({**stored(), "resume": str(run)}, [])


# --- endings ---


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [(Stopped(signal.SIGTERM), 143, "SIGTERM"), (KeyboardInterrupt(), 130, "SIGINT")],
)
def test_a_signal_ends_with_a_line_and_its_status(
    error: Stopped | KeyboardInterrupt, status: int, name: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        signals.leave(error, f"go on with: {advice(run, sweep=False)}")
    assert ended.value.code == status
    assert capsys.readouterr().err == f"stopped by {name}; go on with: anomap-train resume='{run}'\n"
    assert f"hydra.sweep.dir={run.parent}" in advice(run, sweep=True)


def over(signalled: BaseException, *errors: BaseException) -> BaseException:
    """The last of these errors, each raised while the one before was handled."""
    try:
        try:
            raise signalled
        finally:
            for error in errors:
                raise error
    except BaseException as last:
        return last if last is errors[-1] else over(last, *errors[errors.index(last) + 1 :])


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ([AttributeError("of a clean-up"), ConfigCompositionException()], "SIGTERM"),  # Hydra's, over OmegaConf's
        ([UserError("the disk is full")], None),
        ([OSError(errno.ENOSPC, "No space left on device")], None),
        ([SystemExit(143)], None),  # said before
        ([SystemExit(143), ValueError()], None),
    ],
)
def test_a_signal_is_found_behind_the_errors_that_it_brought(errors: list[BaseException], said: str | None) -> None:
    found = signals.behind(over(Stopped(signal.SIGTERM), *errors))
    assert (found is None) == (said is None)
    assert signals.behind(ValueError()) is None


def test_a_signal_that_an_import_swallows_still_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.import_module

    def swallowing(name: str, *package: str) -> object:
        if name != "anomap.commands.train":
            return real(name, *package)
        with contextlib.suppress(BaseException):
            signal.raise_signal(signal.SIGTERM)
        return SimpleNamespace(command=lambda *_: pytest.fail(f"{name} went on"))

    monkeypatch.setattr(importlib, "import_module", swallowing)
    assert in_process(["data=folder", f"data.root={tmp_path}"], tmp_path, monkeypatch) == 143
    assert capsys.readouterr().err.startswith("stopped by SIGTERM; go on with: ")


def test_a_signal_in_a_sweep_is_no_failure_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        multirun.HydraConfig, "get", lambda: OmegaConf.create({"launcher": {"_target_": "BasicLauncher"}})
    )

    def work() -> None:
        raise over(Stopped(signal.SIGTERM), InterpolationResolutionError("of a clean-up"))

    with pytest.raises(InterpolationResolutionError):
        multirun.run_job(work, OmegaConf.create(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_further_processes_say_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit) as ended:
        signals.leave(Stopped(signal.SIGTERM))
    assert ended.value.code == 0
    assert capsys.readouterr().err == ""


def test_only_a_full_disk_is_called_one(tmp_path: Path) -> None:
    told = signals.full_disk(OSError(errno.ENOSPC, "No space left on device"), tmp_path)
    assert str(tmp_path) in str(told)
    assert signals.full_disk(FileNotFoundError(errno.ENOENT, "no such file"), tmp_path) is None


# --- the command itself ---

Start = Callable[..., "subprocess.Popen[str]"]
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """`start(folder, *arguments)` is `anomap-train` of a small run in `folder`, or without one of what is resumed."""
    data = tiny.write_folder(tmp_path_factory.mktemp("data"), train=16)
    fixed = (
        *("data=folder", f"data.root={data}", "data.image_size=32", "data.channels=1", "data.batch_size=4"),
        *("controls=false", "logger=none", "trainer.accelerator=cpu", "trainer.max_epochs=40"),
    )
    started: list[subprocess.Popen[str]] = []

    def command(folder: Path | None, *more: str) -> "subprocess.Popen[str]":
        own = (*fixed, f"hydra.run.dir={folder}") if folder is not None else ()
        flags = [argument for argument in more if argument == "-m"]  # Hydra wants it before the first override
        process = subprocess.Popen(
            [Path(sys.executable).with_name("anomap-train"), *flags, *own, *more[len(flags) :]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        started.append(process)
        return process

    yield command
    for process in started:
        process.kill()
        process.wait()


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    while not path.is_file():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def finish(process: "subprocess.Popen[str]", status: int) -> tuple[str, str]:
    out, err = process.communicate(timeout=600)
    assert process.returncode == status, (out, err)
    return out, err


@pytest.fixture(scope="module")
def whole(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    finish(start(folder, "model=ganomaly"), 0)
    return folder


def assert_as(whole: Path, folder: Path) -> None:
    assert_same(whole, folder, read_metrics(folder / "metrics.json"), read_metrics(whole / "metrics.json"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_resumed_from_the_command_line(number: int, start: Start, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder, "model=ganomaly")
    wait_for(RunFolder(folder).last_checkpoint, process)
    process.send_signal(number)
    _, err = finish(process, 128 + number)
    assert err == f"stopped by {signal.Signals(number).name}; go on with: anomap-train resume={folder}\n"
    kept = (folder / ".hydra/config.yaml").read_bytes(), sorted(path.name for path in (folder / ".hydra").iterdir())
    finish(start(None, f"resume={folder}"), 0)
    assert_as(whole, folder)
    assert kept == ((folder / ".hydra/config.yaml").read_bytes(), sorted(p.name for p in (folder / ".hydra").iterdir()))
    # once more: it is finished, and stays as it is
    times = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    out, _ = finish(start(None, f"resume={folder}"), 0)
    assert "finished before" in out
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == times


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_stopped_before_there_was_anything_to_keep(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(folder, "model=ganomaly", "trainer.max_epochs=1")
    wait_for(RunFolder(folder).config, process)
    process.send_signal(signal.SIGTERM)
    _, err = finish(process, 143)
    assert err.count("\n") == 1
    finish(start(None, f"resume={folder}"), 0)
    assert RunFolder(folder).finished


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_any_moment_it_leaves_a_checkpoint_that_loads_or_none(
    start: Start, whole: Path, tmp_path: Path
) -> None:
    """Twenty kills: every other one as soon as a checkpoint is being written."""
    dice, kills, folder = random.Random(0), 0, tmp_path / "run0"
    process = start(folder, "model=ganomaly")
    while kills < 20:
        until = time.monotonic() + (dice.uniform(0, 20) if kills % 2 else 300)
        while process.poll() is None and time.monotonic() < until:
            if kills % 2:
                time.sleep(0.01)
            elif list(folder.rglob(".tmp-*")):
                break
        if process.poll() is not None:  # it came to its end: another one
            finish(process, 0)
            folder = tmp_path / f"run{kills}"
            process = start(folder, "model=ganomaly")
            continue
        process.kill()
        process.wait()
        kills += 1
        run = RunFolder(folder)
        if run.last_checkpoint.exists():
            assert checkpoint.read(run.last_checkpoint)["run"]["model"]["name"] == "ganomaly"
        process = start(None, f"resume={folder}") if run.config.is_file() else start(folder, "model=ganomaly")
    finish(process, 0)
    assert_as(whole, folder)
    assert not list(folder.rglob(".tmp-*"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_full_disk_is_one_line_and_can_be_gone_on_from(start: Start, whole: Path, tmp_path: Path) -> None:
    """On a file system of its own, too small for the second checkpoint beside the first."""
    small = tmp_path / "small"
    small.mkdir()
    training = {k: v for k, v in checkpoint.read(RunFolder(whole).last_checkpoint).items() if k != checkpoint.SECTION}
    checkpoint.save(tmp_path / "training.ckpt", training)  # as they are before the detector is finished
    size = int((tmp_path / "training.ckpt").stat().st_size * 1.5)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a file system may not be mounted here")
    try:
        folder = small / "run"
        _, err = finish(start(folder, "model=ganomaly"), 2)
        (line,) = err.splitlines()
        assert str(RunFolder(folder).last_checkpoint) in line
        assert "No space left" in line
        kept = checkpoint.read(RunFolder(folder).last_checkpoint)  # whole
        assert checkpoint.SECTION not in kept  # and of the training alone
        subprocess.run(["mount", "-o", f"remount,size={10 * size}", small], check=True)
        finish(start(None, f"resume={folder}"), 0)
        assert_as(whole, folder)
    finally:
        subprocess.run(["umount", small], check=True)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_sweep_that_was_stopped_goes_on_inside_its_job(start: Start, tmp_path: Path) -> None:
    sweep = (f"hydra.sweep.dir={tmp_path}/sweep", "model=ganomaly,control_mean", "trainer.max_epochs=12")
    process = start(tmp_path, "-m", *sweep)
    found: list[Path] = []
    while not found:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
        found = list((tmp_path / "sweep").rglob("last.ckpt")) if (tmp_path / "sweep").is_dir() else []
    job = RunFolder(found[0].parents[1])
    process.send_signal(signal.SIGTERM)
    _, err = finish(process, 143)
    assert f"hydra.sweep.dir={tmp_path}/sweep" in err
    assert err.count("\n") == 1
    assert not list((tmp_path / "sweep").rglob("error.txt"))
    assert not job.finished
    out, _ = finish(start(tmp_path, "-m", *sweep), 0)
    assert "going on from its checkpoint" in out
    assert len(list((tmp_path / "sweep").rglob("metrics.json"))) == 2
