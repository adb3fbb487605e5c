"""The jobs of a sweep, read from their folders: what each was asked for, and its metrics or why it has none."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from anomap.config import unquoted
from anomap.errors import UserError
from anomap.runs.folder import MetricValue, RunFolder, read_metrics

ERROR = "error.txt"  # in a failed job's folder: why; one line if the user can mend it, a traceback otherwise
UNSET = "default"  # stands for the value of a key that some jobs override and this one does not

_OVERRIDES = Path(".hydra") / "overrides.yaml"  # in a job's folder: what its command line said
_NO_SETTINGS = ("seed", "sweep")  # the seed is what is averaged over; the name of a preset is no setting
_NOT_ENTERED = ("checkpoints", "figures", "stage1", "tensorboard")  # no job lies below these, which may be long


@dataclass(frozen=True, slots=True)
class Job:
    """One job of a sweep."""

    name: str  # its folder, as it is shown
    folder: Path
    settings: dict[str, str]  # key -> value, as overridden on the command line; without the seed
    seed: str
    metrics: dict[str, MetricValue] = field(default_factory=dict)  # empty unless it finished
    problem: str = ""  # why it did not finish, or is not counted

    def cell(self, keys: Iterable[str]) -> tuple[str, ...]:
        """Its values for `keys`."""
        return tuple(self.settings.get(key, UNSET) for key in keys)

    def number(self, metric: str) -> float | None:
        """A metric as a number; None if there is none, or it is a text."""
        value = self.metrics.get(metric)
        return value if isinstance(value, int | float) else None


def read_jobs(sweeps: Sequence[Path]) -> list[Job]:
    """Every job in these folders and below, in natural order; UserError for one that is no folder, or without a job."""
    jobs: dict[Path, Job] = {}
    for sweep in sweeps:
        if not sweep.is_dir():
            raise UserError(f"{sweep}: no such folder; give the folder of a sweep (its multirun.yaml lies there)")
        found = [folder for folder in _folders(sweep) if is_job(folder)]
        if not found:
            raise UserError(f"{sweep}: no job inside (a folder with metrics.json or .hydra); give a sweep's folder")
        for folder in found:
            name = folder.relative_to(sweep).as_posix()
            shown = name if len(sweeps) == 1 else f"{sweep.resolve().name}/{name}"
            jobs.setdefault(folder.resolve(), _read_job(folder, shown))
    return sorted(jobs.values(), key=lambda job: [natural(text) for text in (*job.settings.values(), job.seed)])


def is_job(folder: Path) -> bool:
    """Whether a command ran in this very folder."""
    return RunFolder(folder).finished or (folder / _OVERRIDES).is_file() or (folder / ERROR).is_file()


def _folders(sweep: Path) -> Iterator[Path]:
    for folder, names, _ in os.walk(sweep):
        names[:] = [name for name in names if not name.startswith(".") and name not in _NOT_ENTERED]
        yield Path(folder)


def _read_job(folder: Path, name: str) -> Job:
    given = read_overrides(folder)
    given = {"folder": name} if given is None else given
    run, error, metrics, problem = RunFolder(folder), folder / ERROR, {}, ""
    if run.finished:
        try:
            metrics = read_metrics(run.metrics)
        except UserError as damaged:
            problem = str(damaged)
    else:
        problem = f"failed: {reason(error)}" if error.is_file() else "unfinished: still running, or stopped"
    seed = given.get("seed") or str(metrics.get("seed", ""))
    return Job(name, folder, {k: v for k, v in given.items() if k not in _NO_SETTINGS}, seed, metrics, problem)


def read_overrides(folder: Path) -> dict[str, str] | None:
    """What a job's command line said, key -> value; None where that is not known."""
    try:
        lines = yaml.safe_load((folder / _OVERRIDES).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return parse_overrides(map(str, lines)) if isinstance(lines, list) else None


def parse_overrides(lines: Iterable[str]) -> dict[str, str]:
    """`["model=adgan", "+data.x='a b'"]` as `{"model": "adgan", "data.x": "a b"}`; the last of a key counts."""
    settings = {}
    for line in lines:
        key, _, value = line.lstrip("+").partition("=")
        settings[key] = unquoted(value)
    return settings


def reason(error: Path) -> str:
    """The line of an `error.txt` that says most: the only one, or the last of a traceback."""
    lines = error.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "failed")


def as_number(text: str) -> float | None:
    """A setting as a finite number; None for any other text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def natural(text: str) -> tuple[int, float, str]:
    """Sorts numbers by size and before words."""
    number = as_number(text)
    return (1, 0.0, text) if number is None else (0, number, text)
