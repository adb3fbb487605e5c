"""The table of a sweep as text: for spreadsheets and programs (CSV), and for people (Markdown)."""

import csv
import io
import re

from anomap.runs.jobs import as_number
from anomap.runs.scores import escape_cell
from anomap.runs.sweeps import Row, Summary, SweepTable
from anomap.viewing.metric_names import name, number

_MARKDOWN = re.compile(r"([\\|<`*\[])")


def csv_table(table: SweepTable) -> str:
    """One line for each combination, each mean and each job that is not counted; every digit is kept.

    Columns of a metric: mean, standard deviation over seeds (empty for one seed), and how many seeds had it.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    parts = [f"{metric}{part}" for metric in table.metrics for part in ("", "_sd", "_n")]
    writer.writerow([*(escape_cell(key) for key in table.keys), "n", *parts, "seed", "note"])
    for row in (*table.rows, *table.means):
        numbers = [cell for metric in table.metrics for cell in _numbers(row.values.get(metric))]
        writer.writerow([*(_cell(value) for value in row.settings), row.n, *numbers, "", escape_cell(row.note)])
    for job in table.problems:
        settings = [_cell(value) for value in job.cell(table.keys)]
        note = escape_cell(f"{job.name}: {job.problem}")
        writer.writerow([*settings, 0, *("" for _ in parts), _cell(job.seed), note])
    return text.getvalue()


def markdown_table(table: SweepTable) -> str:
    """The table, and below it what is not in it."""
    lines = []
    if heading := [*table.common.items(), *constants(table)]:
        lines += ["All: " + ", ".join(f"{_text(key)}={_text(value)}" for key, value in heading), ""]
    if table.rows:
        columns = table.columns
        heads = [*(_text(key) for key in table.keys or ("jobs",)), "n", *(name(metric) for metric in columns)]
        cells = [heads, ["---"] * max(1, len(table.keys)) + ["--:"] * (1 + len(columns))]
        for row in (*table.rows, *table.means):
            values = [written(metric, row.values.get(metric), row.n) for metric in columns]
            cells.append([*(_text(value) for value in row.settings or ("all",)), str(row.n), *values])
        lines += [f"| {' | '.join(line)} |" for line in cells]
        lines += ["", "Mean ± standard deviation (n - 1) over n seeds; a single seed has none."]
        notes = [f"- {_text(' / '.join(row.settings))}: {_text(row.note)}" for row in noted(table)]
        lines += [""] * bool(notes or table.note)
        lines += [f"- all: {_text(table.note)}"] * bool(table.note) + notes
    if table.problems:
        lines += ["", f"Not in the table ({len(table.problems)} of {len(table.jobs)} jobs):"]
        lines += [f"- {_text(job.name)}: {_text(job.problem)}" for job in table.problems]
    return "\n".join(lines) + "\n"


def constants(table: SweepTable) -> list[tuple[str, str]]:
    """Name and value of every metric that is the same in all rows."""
    return [(name(metric), written(metric, summary, summary.n)) for metric, summary in table.constant.items()]


def noted(table: SweepTable) -> list[Row]:
    """The lines that have a note."""
    return [row for row in (*table.rows, *table.means) if row.note]


def written(metric: str, summary: Summary | None, n: int) -> str:
    """`0.913 ± 0.003`; with its own n if that is not the row's."""
    if summary is None:
        return "–"
    text = number(metric, *(value for value in (summary.mean, summary.sd) if value is not None))
    return text if summary.n == n else f"{text} (n={summary.n})"


def _cell(value: str) -> str:
    """A number stays one, also a negative one."""
    return escape_cell(value) if as_number(value) is None else value


def _numbers(summary: Summary | None) -> tuple[str, str, str]:
    if summary is None:
        return "", "", "0"
    return repr(summary.mean), "" if summary.sd is None else repr(summary.sd), str(summary.n)


def _text(value: str) -> str:
    """Nothing that Markdown or a terminal would act on."""
    return _MARKDOWN.sub(r"\\\1", "".join(letter if letter.isprintable() else " " for letter in value))
