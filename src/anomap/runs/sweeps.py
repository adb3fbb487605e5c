"""The jobs of a sweep compared: what varied between them, and mean ± standard deviation over their seeds."""

import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from anomap.errors import UserError
from anomap.runs.jobs import Job, natural

DEFAULT_METRICS = (
    *("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pixel_aupro", "test_fpr", "test_tpr"),
    *("estimate_auroc", "estimate_tpr"),
    *("train_seconds", "score_images_per_second", "score_mflop_per_image"),
)
_THRESHOLD = "threshold"  # a group, and its keys: what a threshold is compared by comes first where one of them varied
_THRESHOLD_METRICS = ("promised_fpr", "threshold", "test_fpr", "test_tpr")


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
    note: str = ""  # of all rows

    @property
    def constant(self) -> dict[str, Summary]:
        """The metrics that are the same in all of several rows: said once, they need no column."""
        first = self.rows[0].values if len(self.rows) > 1 else {}
        return {name: first[name] for name in self.metrics if name in first and self._same(name)}

    @property
    def columns(self) -> tuple[str, ...]:
        """The metrics that differ between the rows."""
        return tuple(name for name in self.metrics if name not in self.constant)

    def _same(self, metric: str) -> bool:
        return all(row.values.get(metric) == self.rows[0].values[metric] for row in self.rows)

    @property
    def problems(self) -> tuple[Job, ...]:
        """The jobs that are not in the rows, each with its reason."""
        return tuple(job for job in self.jobs if job.problem)


def tabulate(jobs: Sequence[Job], metrics: Sequence[str] | None = None, over: Sequence[str] = ()) -> SweepTable:
    """Group the jobs of one or several sweeps by what varied, and average over seeds.

    Columns are `metrics`, by default those of `DEFAULT_METRICS` and of the controls that any job has, and where thresholds
    varied, first what they promise and do. Means over the keys `over` are added. UserError for a metric that no job has, or
    a key that did not vary.
    """
    jobs = _without_repeats(jobs)
    keys, finished = _varied(jobs), [job for job in jobs if not job.problem]
    for key in over:
        if key not in keys:
            raise UserError(f"{key} did not vary between the jobs; what did: {', '.join(keys) or 'only the seed'}")
    thresholds = [position for position, key in enumerate(keys) if key.split(".")[0] == _THRESHOLD]
    columns = _columns(finished, metrics, bool(thresholds))
    cells = _by_cell(finished, keys)
    notes = _threshold_notes(cells, thresholds)
    note = notes[0] if len(set(notes)) == 1 else ""
    rows = [
        _row(cell, [[job] for job in group], columns, "" if note else own)
        for (cell, group), own in zip(cells, notes, strict=True)
    ]
    means = _mean_rows(jobs, keys, over, columns) if over else []
    common = {key: value for key, value in jobs[0].settings.items() if all(job.cell([key]) == (value,) for job in jobs)}
    return SweepTable(keys, columns, tuple(rows), tuple(means), common, tuple(jobs), note)


def others(jobs: Sequence[Job], kept: Sequence[str]) -> list[str]:
    """What varied besides `kept`; UserError if nothing did, or no job sets one of `kept`."""
    known = dict.fromkeys(key for job in jobs for key in job.settings)
    for key in kept:
        if key not in known:
            raise UserError(f"--by {key}: no job overrides it; they override {', '.join(known) or 'nothing'}")
    rest = [key for key in _varied(jobs) if key not in kept]
    if not rest:
        raise UserError(f"--by {','.join(kept)}: nothing else varied, so there is nothing to average over")
    return rest


def _without_repeats(jobs: Sequence[Job]) -> list[Job]:
    """A second job with the same settings and seed is no further sample, and marked as a problem."""
    first: dict[tuple[frozenset[tuple[str, str]], str], Job] = {}
    kept = []
    for job in jobs:
        same = job if job.problem else first.setdefault((frozenset(job.settings.items()), job.seed), job)
        repeated = f"not counted: same settings and seed as {same.name}"
        kept.append(job if same is job else replace(job, problem=repeated))
    return kept


def _varied(jobs: Sequence[Job]) -> tuple[str, ...]:
    """The keys that differ between the jobs, in the order in which they were given."""
    keys = dict.fromkeys(key for job in jobs for key in job.settings)
    return tuple(key for key in keys if len({job.settings.get(key) for job in jobs}) > 1)


def _threshold_notes(cells: Sequence[tuple[tuple[str, ...], list[Job]]], thresholds: Sequence[int]) -> list[str]:
    """For each row what its runs say of their threshold, and why it decides as an earlier row does, if it does.

    Rows are compared that differ at the positions `thresholds` of their settings only.
    """
    earlier: dict[tuple[str, ...], list[tuple[str, list[Job]]]] = {}
    notes = []
    for cell, group in cells:
        said = [str(job.metrics["threshold_note"]) for job in group if job.metrics.get("threshold_note")]
        own = "/".join(cell[position] for position in thresholds)
        others = earlier.setdefault(tuple(text for k, text in enumerate(cell) if k not in thresholds), [])
        alike = (why for name, jobs in others if (why := _alike(name, jobs, group)))
        if thresholds:
            said[:0] = [found] if (found := next(alike, "")) else []
            others.append((own, group))
        notes.append(": ".join(dict.fromkeys(said)))
    return notes


def _alike(name: str, jobs: Sequence[Job], group: Sequence[Job]) -> str:
    """Why `group` decides as the row `name` of these `jobs` does; nothing if it does not."""

    def same(metric: str) -> bool:
        first, second = ({job.seed: job.number(metric) for job in each} for each in (jobs, group))
        return first == second and None not in first.values()

    if same("threshold"):
        return f"the same threshold as {name}"
    return (
        f"no test image scores between this threshold and that of {name}"
        if same("test_fpr") and same("test_tpr")
        else ""
    )


def _columns(finished: Sequence[Job], metrics: Sequence[str] | None, thresholds: bool) -> tuple[str, ...]:
    known = {name for job in finished for name in job.metrics if job.number(name) is not None}
    if metrics is None:
        controls = sorted(name for name in known if name.startswith("control_") and name.endswith("_auroc"))
        first = _THRESHOLD_METRICS if thresholds else ()
        return tuple(name for name in dict.fromkeys((*first, *DEFAULT_METRICS, *controls)) if name in known)
    unknown = [name for name in metrics if name not in known]
    if unknown and finished:
        raise UserError(f"--metrics {unknown[0]}: no job has this number; they have {', '.join(sorted(known))}")
    return tuple(name for name in metrics if name in known)


def _mean_rows(jobs: Sequence[Job], keys: Sequence[str], over: Sequence[str], metrics: Sequence[str]) -> list[Row]:
    """Means over the keys `over`: for each seed first, then mean ± sd of those over the seeds.

    A seed counts only if all combinations of `over` that occur in the sweep are there: a mean over fewer of them is
    another quantity.
    """
    kept = [key for key in keys if key not in over]
    expected = [cell for cell, _ in _by_cell(jobs, over)]
    rows = []
    for cell, group in _by_cell(jobs, kept):
        seeds: dict[str, dict[tuple[str, ...], Job]] = {job.seed: {} for job in group}
        for job in group:
            if not job.problem:
                seeds[job.seed][job.cell(over)] = job
        complete, gaps = [], {}
        for seed, found in seeds.items():
            if missing := ["/".join(part) for part in expected if part not in found]:
                gaps.setdefault(", ".join(missing), []).append(seed or "?")
            else:
                complete.append(found.values())
        values = dict(zip(kept, cell, strict=True))
        left_out = (f"without seed {', '.join(names)}: no {gap}" for gap, names in gaps.items())
        note = "; ".join([f"mean over {', '.join(over)}", *left_out])
        rows.append(_row([values.get(key, "mean") for key in keys], complete, metrics, note))
    return rows


def _by_cell(jobs: Iterable[Job], keys: Sequence[str]) -> list[tuple[tuple[str, ...], list[Job]]]:
    """The jobs grouped by their values for `keys`, in natural order."""
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.cell(keys), []).append(job)
    return sorted(groups.items(), key=lambda item: [natural(text) for text in item[0]])


def _row(settings: Iterable[str], seeds: Sequence[Collection[Job]], metrics: Sequence[str], note: str = "") -> Row:
    """One line; a seed counts with the mean over its jobs, if all have the metric."""
    values: dict[str, Summary] = {}
    for metric in metrics:
        numbers = [[job.number(metric) for job in jobs] for jobs in seeds]
        means = [statistics.fmean(found) for found in numbers if None not in found]  # pyright: ignore[reportArgumentType]
        if (summary := summarise(means)) is not None:
            values[metric] = summary
    return Row(tuple(settings), len(seeds), values, note)


def summarise(values: Iterable[float | None]) -> Summary | None:
    """Mean and sample standard deviation (n - 1) of the values that exist."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    return Summary(statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None, len(found))
