"""Sweeps in other processes keep what a sweep promises; what a launcher lacks or loses is one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from anomap.cli.user_errors import EXTRAS, lost_process, missing_launcher
from anomap.config import config_dir
from anomap.runs.folder import read_metrics
from anomap.runs.jobs import ERROR
from tests import tiny


def start(folder: Path, launcher: str, *arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """`anomap-train -m hydra/launcher=…` over controls, as a program of its own, which first runs `code`."""
    if not (folder / "data").is_dir():
        tiny.write_folder(folder / "data", train=8, normal=2, abnormal=2)
    fixed = ("data=folder", f"data.root={folder}/data", "data.channels=1", "data.image_size=32")
    small = ("controls=false", "logger=none", f"hydra.sweep.dir={folder}/sweep")
    # the threads of a job are the launcher's to say; the whole suite may run with one
    threads = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
    return subprocess.run(
        [
            *(sys.executable, "-c", f"{code}\nfrom anomap.cli.entry import train; train()"),
            *("-m", f"hydra/launcher={launcher}", *arguments, *fixed, *small),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={key: value for key, value in os.environ.items() if key not in threads},
    )


LAUNCHERS = [
    pytest.param("joblib", "joblib_launcher", ["hydra.launcher.n_jobs=2"], id="joblib"),
    pytest.param("ray_local", "ray_launcher", ["hydra.launcher.ray.init.num_cpus=2"], id="ray"),
    pytest.param("submitit_local", "submitit_launcher", ["hydra.sweeper.max_batch_size=2"], id="submitit"),
]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("launcher", "plugin", "options"), LAUNCHERS)
def test_a_sweep_in_other_processes_keeps_its_promises(
    launcher: str, plugin: str, options: list[str], tmp_path: Path
) -> None:
    pytest.importorskip(f"hydra_plugins.hydra_{plugin}")
    grid = ("++trainer.strategy=auto,ddp", "model=control_darkness,control_mean", "seed=0", *options)
    first = start(tmp_path, launcher, *grid)
    assert first.returncode == 1, first.stderr
    assert "Traceback" not in first.stdout + first.stderr
    summary, *lines = first.stderr.splitlines()[-3:]
    assert summary.startswith("error: 2 failed in ")
    assert all("trainer.strategy=ddp in a sweep" in line for line in lines)
    jobs = sorted(path for path in (tmp_path / "sweep").iterdir() if path.name[0] != "." and path.is_dir())
    done = {path: path / "metrics.json" for path in jobs if (path / "metrics.json").is_file()}
    assert len(jobs) == 4
    assert [len((path / ERROR).read_text().splitlines()) for path in jobs if path not in done] == [1, 1]
    assert {read_metrics(path)["model"] for path in done.values()} == {"control_darkness", "control_mean"}
    if launcher != "submitit_local":  # which limits nothing
        cores = len(os.sched_getaffinity(0))
        threads = max(1, cores // 2) if launcher == "joblib" else 1
        assert {read_metrics(path)["threads"] for path in done.values()} == {threads}
    # started again without the failing ones, and in this process: the same folders, and nothing left to do
    times = {path: path.stat().st_mtime_ns for path in done.values()}
    second = start(tmp_path, "basic", "++trainer.strategy=auto", "model=control_darkness,control_mean", "seed=0")
    assert second.returncode == 0, second.stderr
    assert second.stdout.count("skipped") == 2
    third = start(tmp_path, launcher, "++trainer.strategy=auto", *grid[1:])
    assert third.returncode == 0, third.stderr
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert not [path for path in (tmp_path / "sweep").glob("*/") if path not in jobs and path.name[0] != "."]


# --- what is missing or lost ---


@pytest.mark.parametrize("launcher", ["joblib", "ray_local", "slurm"])
def test_an_absent_launcher_is_one_line_that_names_the_extra(launcher: str, tmp_path: Path) -> None:
    done = start(tmp_path, launcher, code="import hydra_plugins; hydra_plugins.__path__ = []")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert launcher.removesuffix("_local") in line
    assert f'pip install "anomap[{EXTRAS[launcher]}]"' in line


@pytest.mark.parametrize("launcher", [path.stem for path in (config_dir() / "hydra/launcher").glob("*.yaml")])
def test_our_launchers_are_known_by_their_extra(launcher: str) -> None:
    assert launcher in EXTRAS


def test_a_machine_without_slurm_is_told_of(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    done = start(tmp_path, "slurm", "seed=0,1", code="import os; os.environ['PATH'] = ''")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "no SLURM on this machine" in line


def test_a_lost_process_of_joblib_is_told_of() -> None:
    joblib = pytest.importorskip("joblib")
    with pytest.raises(Exception) as raised:  # noqa: PT011 - its own kind is what the next line is about
        joblib.Parallel(n_jobs=2)(joblib.delayed(os._exit)(1) for _ in range(2))
    assert "lost with its work (TerminatedWorkerError" in str(lost_process(raised.value))


def test_lost_processes_of_ray_and_submitit_are_told_of_and_their_jobs_errors_are_not() -> None:
    ray = pytest.importorskip("ray.exceptions")
    submitit = pytest.importorskip("submitit.core.utils")
    assert lost_process(ray.WorkerCrashedError())
    assert lost_process(submitit.UncompletedJobError("no result"))
    assert lost_process(ray.RayTaskError("work", "traceback", ValueError("x"))) is None
    assert lost_process(ValueError("x")) is None
    assert missing_launcher(ValueError("x")) is None
