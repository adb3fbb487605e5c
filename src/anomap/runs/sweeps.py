"""The jobs of a sweep compared: what varied between them, and mean ± standard deviation over their seeds."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from anomap.errors import UserError
from anomap.runs.jobs import Job, natural

DEFAULT_METRICS = (
    *("image_auroc", "image_ap", "pixel_auroc", "pixel_aupro", "test_fpr", "test_tpr"),
    *("train_seconds", "score_images_per_second"),
)


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
class SweepTable:
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


def tabulate(jobs: Sequence[Job], metrics: Sequence[str] | None = None, over: Sequence[str] = ()) -> SweepTable:
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
    return SweepTable(keys, columns, tuple(rows), tuple(means), common, tuple(jobs))


def without_repeats(jobs: Sequence[Job]) -> list[Job]:
    """The jobs; a second one with the same settings and seed is no further sample, and marked as a problem."""
    first: dict[tuple[frozenset[tuple[str, str]], str], Job] = {}
    kept = []
    for job in jobs:
        same = job if job.problem else first.setdefault((frozenset(job.settings.items()), job.seed), job)
        repeated = f"not counted: same settings and seed as {same.name}"
        kept.append(job if same is job else replace(job, problem=repeated))
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
