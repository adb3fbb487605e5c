"""A sweep's folder: which jobs it holds, what varied between them, and mean ± standard deviation over their seeds."""

import os
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from anomap.errors import UserError
from anomap.runs.folder import MetricValue, RunFolder, read_metrics

ERROR = "error.txt"  # in a failed job's folder: why; one line if the user can mend it, a traceback otherwise

UNSET = "default"  # stands for the value of a key that some jobs override and this one does not

DEFAULT_METRICS = (
    *("image_auroc", "image_ap", "pixel_auroc", "pixel_aupro", "test_fpr", "test_tpr"),
    *("train_seconds", "score_images_per_second"),
)

# The seed is what is averaged over; the name of a preset is no setting.
_NO_SETTINGS = ("seed", "sweep")
# No job lies below these, and a checkpoint folder or a log may be long.
_NOT_ENTERED = ("checkpoints", "figures", "stage1", "tensorboard")


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
        """Its values of `keys`."""
        return tuple(self.settings.get(key, UNSET) for key in keys)

    def number(self, metric: str) -> float | None:
        """A metric, if it has it as a number."""
        value = self.metrics.get(metric)
        return value if isinstance(value, int | float) else None


@dataclass(frozen=True, slots=True)
class Summary:
    """A metric over seeds."""

    mean: float
    sd: float | None  # of a sample (n - 1); None for a single seed
    n: int


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: one combination of what varied, or a mean over some of it."""

    settings: tuple[str, ...]  # one per key of the table
    n: int  # seeds
    values: dict[str, Summary]  # only the metrics that exist
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """What a sweep found."""

    keys: tuple[str, ...]  # what varied
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    means: tuple[Row, ...]  # over some of the keys
    common: dict[str, str]  # what all jobs have in common
    jobs: tuple[Job, ...]  # all of them

    @property
    def problems(self) -> tuple[Job, ...]:
        """The jobs that are not in the rows, each with its reason."""
        return tuple(job for job in self.jobs if job.problem)


# --- reading ---


def read_jobs(sweeps: Sequence[Path]) -> list[Job]:
    """Every job in these folders and below, in natural order.

    Raises:
        UserError: not a folder, or no job inside.
    """
    jobs: dict[Path, Job] = {}
    for sweep in sweeps:
        if not sweep.is_dir():
            raise UserError(f"{sweep}: no such folder; give the folder of a sweep (its multirun.yaml lies there)")
        found = [folder for folder in _folders(sweep) if is_job(folder)]
        if not found:
            raise UserError(
                f"{sweep}: no job inside (a folder with metrics.json or .hydra); give the folder of a sweep"
            )
        for folder in found:
            name = folder.relative_to(sweep).as_posix()
            shown = name if len(sweeps) == 1 else f"{sweep.resolve().name}/{name}"
            jobs.setdefault(folder.resolve(), read_job(folder, shown))
    return sorted(
        jobs.values(), key=lambda job: (*(natural(part) for part in job.settings.values()), natural(job.seed))
    )


def is_job(folder: Path) -> bool:
    """Whether a command ran in this very folder."""
    run = RunFolder(folder)
    return run.finished or _overrides_file(folder).is_file() or (folder / ERROR).is_file()


def read_job(folder: Path, name: str) -> Job:
    """What is known of one job, finished or not."""
    overrides = _read_overrides(_overrides_file(folder))
    settings = {"folder": name} if overrides is None else parse_overrides(overrides)
    seed = settings.get("seed")
    job = Job(name, folder, {k: v for k, v in settings.items() if k not in _NO_SETTINGS}, seed or "")
    run = RunFolder(folder)
    if not run.finished:
        return replace(job, problem=_reason(folder / ERROR))
    try:
        metrics = read_metrics(run.metrics)
    except UserError as error:
        return replace(job, problem=str(error))
    return replace(job, metrics=metrics, seed=seed or str(metrics.get("seed", "")))


def parse_overrides(lines: Iterable[str]) -> dict[str, str]:
    """`["model=adgan", "+data.x='a b'"]` as `{"model": "adgan", "data.x": "a b"}`; the last of a key counts."""
    settings = {}
    for line in lines:
        key, _, value = line.lstrip("+").partition("=")
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        settings[key] = value[1:-1] if quoted else value
    return settings


def _folders(sweep: Path) -> Iterator[Path]:
    for folder, names, _ in os.walk(sweep):
        names[:] = [name for name in names if not name.startswith(".") and name not in _NOT_ENTERED]
        yield Path(folder)


def _overrides_file(folder: Path) -> Path:
    return folder / ".hydra" / "overrides.yaml"


def _read_overrides(path: Path) -> list[str] | None:
    try:
        lines = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return [str(line) for line in lines] if isinstance(lines, list) else None


def reason(error: Path) -> str:
    """The line of an `error.txt` that says most: the only one, or the last of a traceback."""
    lines = [line for line in error.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "failed"


def _reason(error: Path) -> str:
    return f"failed: {reason(error)}" if error.is_file() else "unfinished: still running, or stopped before its end"


# --- comparing ---


def tabulate(jobs: Sequence[Job], metrics: Sequence[str] | None = None, over: Sequence[str] = ()) -> Table:
    """Group the jobs by what varied, and average over seeds.

    Args:
        jobs: of one or several sweeps.
        metrics: the columns; by default those of `DEFAULT_METRICS` and of the controls that any job has.
        over: keys over which means are added.

    Raises:
        UserError: no job has one of the metrics, or a key did not vary.
    """
    jobs = without_repeats(jobs)
    keys, finished = varied(jobs), [job for job in jobs if not job.problem]
    for key in over:
        if key not in keys:
            raise UserError(
                f"{key} did not vary between the jobs; what did: {', '.join(keys) or 'nothing but the seed'}"
            )
    columns = _columns(finished, metrics)
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in finished:
        groups.setdefault(job.cell(keys), []).append(job)
    rows = [
        Row(cell, len(group), _summaries({m: [job.number(m) for job in group] for m in columns}))
        for cell, group in sorted(groups.items(), key=lambda item: _in_order(item[0]))
    ]
    means = mean_rows(jobs, keys, over, columns) if over else []
    common = {key: value for key, value in jobs[0].settings.items() if all(job.cell([key]) == (value,) for job in jobs)}
    return Table(keys, columns, tuple(rows), tuple(means), common, tuple(jobs))


def without_repeats(jobs: Sequence[Job]) -> list[Job]:
    """The jobs, of which a second one with the same settings and seed is marked: it is no further sample."""
    first: dict[tuple[frozenset[tuple[str, str]], str], Job] = {}
    kept = []
    for job in jobs:
        if not job.problem:
            same = first.setdefault((frozenset(job.settings.items()), job.seed), job)
            if same is not job:
                job = replace(job, problem=f"not counted: same settings and seed as {same.name}")
        kept.append(job)
    return kept


def varied(jobs: Sequence[Job]) -> tuple[str, ...]:
    """The keys that differ between the jobs, in the order in which they were given."""
    keys = dict.fromkeys(key for job in jobs for key in job.settings)
    return tuple(key for key in keys if len({job.settings.get(key) for job in jobs}) > 1)


def others(jobs: Sequence[Job], kept: Sequence[str]) -> list[str]:
    """What varied besides `kept`.

    Raises:
        UserError: no job sets one of `kept`, or nothing else varied.
    """
    known = dict.fromkeys(key for job in jobs for key in job.settings)
    for key in kept:
        if key not in known:
            raise UserError(f"--by {key}: no job overrides it; they override {', '.join(known) or 'nothing'}")
    rest = [key for key in varied(jobs) if key not in kept]
    if not rest:
        raise UserError(f"--by {','.join(kept)}: nothing else varied, so there is nothing to average over")
    return rest


def mean_rows(jobs: Sequence[Job], keys: Sequence[str], over: Sequence[str], metrics: Sequence[str]) -> list[Row]:
    """Means over the keys `over`: for each seed first, then mean ± sd of those over the seeds.

    A seed counts only if all combinations of `over` that occur in the sweep are there: a mean over fewer of them is
    another quantity.
    """
    kept = [key for key in keys if key not in over]
    expected = sorted({job.cell(over) for job in jobs}, key=_in_order)
    groups: dict[tuple[str, ...], dict[str, dict[tuple[str, ...], Job]]] = {}
    for job in jobs:
        seeds = groups.setdefault(job.cell(kept), {}).setdefault(job.seed, {})
        if not job.problem:
            seeds[job.cell(over)] = job
    rows = []
    for cell, seeds in sorted(groups.items(), key=lambda item: _in_order(item[0])):
        missing = {seed: [part for part in expected if part not in found] for seed, found in seeds.items()}
        complete = [found for seed, found in seeds.items() if not missing[seed]]
        means = {m: [_mean([job.number(m) for job in found.values()]) for found in complete] for m in metrics}
        note = "; ".join([f"mean over {', '.join(over)}", *_left_out(missing)])
        values = dict(zip(kept, cell, strict=True))
        rows.append(Row(tuple(values.get(key, "mean") for key in keys), len(complete), _summaries(means), note))
    return rows


def _left_out(missing: Mapping[str, Sequence[tuple[str, ...]]]) -> Iterator[str]:
    """The seeds with gaps, those with the same gaps together."""
    gaps: dict[str, list[str]] = {}
    for seed, parts in missing.items():
        if parts:
            gaps.setdefault(", ".join("/".join(part) for part in parts), []).append(seed or "?")
    for parts, seeds in gaps.items():
        yield f"without seed {', '.join(seeds)}: no {parts}"


def summarise(values: Iterable[float | None]) -> Summary | None:
    """Mean and sample standard deviation (n - 1) of the values that exist."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    return Summary(statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None, len(found))


def as_number(text: str) -> float | None:
    """The number that a setting is, if it is a finite one."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def natural(text: str) -> tuple[int, float, str]:
    """Sorts numbers by size and before words."""
    number = as_number(text)
    return (1, 0.0, text) if number is None else (0, number, text)


def _in_order(cell: Iterable[str]) -> list[tuple[int, float, str]]:
    return [natural(text) for text in cell]


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return statistics.fmean(numbers) if numbers and len(numbers) == len(values) else None


def _summaries(columns: dict[str, list[float | None]]) -> dict[str, Summary]:
    found = {metric: summarise(values) for metric, values in columns.items()}
    return {metric: summary for metric, summary in found.items() if summary is not None}


def _columns(finished: Sequence[Job], metrics: Sequence[str] | None) -> tuple[str, ...]:
    known = {name for job in finished for name in job.metrics if job.number(name) is not None}
    if metrics is None:
        controls = sorted(name for name in known if name.startswith("control_") and name.endswith("_auroc"))
        return (*(name for name in DEFAULT_METRICS if name in known), *controls)
    unknown = [name for name in metrics if name not in known]
    if unknown and finished:
        raise UserError(f"--metrics {unknown[0]}: no job has this number; they have {', '.join(sorted(known))}")
    return tuple(name for name in metrics if name in known)
