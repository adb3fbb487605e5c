"""anomap-report: what a sweep found, as a table of mean ± standard deviation over seeds: CSV, Markdown, HTML."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from anomap.cli.signals import fail
from anomap.errors import UserError
from anomap.runs.folder import write_atomically
from anomap.runs.jobs import is_job, read_jobs
from anomap.runs.sweeps import DEFAULT_METRICS, SweepTable, others, tabulate
from anomap.viewing.sweep_page import sweep_page
from anomap.viewing.sweep_tables import csv_table, markdown_table

_EXAMPLES = """
Examples
  anomap-report outputs/train/multirun/DATE/TIME
  anomap-report DIR --metrics image_auroc,pixel_aupro
  anomap-report DIR --by model                 for each model also its mean over everything else that varied
  anomap-report DIR --over data.normal_class   also the mean over the classes, for each combination of the rest

A mean is taken for each seed first; the ± is its standard deviation over seeds.
Exit status: 0 done, 2 your input is wrong, 1 otherwise.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        fail(f"{message}; --help shows the usage")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, write the reports, print the table."""
    chosen = _parser().parse_args(arguments)
    try:
        table = compare(chosen.sweep, chosen.metrics, chosen.by, chosen.over)
        print(markdown_table(table))
        folder = write(table, chosen.sweep[0], chosen.output)
    except UserError as error:
        fail(str(error))
    for suffix in ("csv", "md", "html"):
        print(f"{suffix:<5} {folder / f'report.{suffix}'}")


def report(
    sweeps: Sequence[Path], metrics: Sequence[str] | None = None, by: Sequence[str] = (), over: Sequence[str] = ()
) -> SweepTable:
    """`compare`, and `write` into the first folder."""
    table = compare(sweeps, metrics, by, over)
    write(table, sweeps[0])
    return table


def compare(
    sweeps: Sequence[Path], metrics: Sequence[str] | None = None, by: Sequence[str] = (), over: Sequence[str] = ()
) -> SweepTable:
    """Compare all jobs of the sweeps' folders.

    The columns are `metrics`, by default `DEFAULT_METRICS` and the controls, as far as they exist. Means are added over the
    keys `over`, or over all keys that varied but `by`. UserError if there are no jobs, or no such metric or key.
    """
    first = sweeps[0]
    if is_job(first):
        raise UserError(f"{first}: one run's folder, which has its own report.html; give the folder of a sweep")
    jobs = read_jobs(sweeps)
    return tabulate(jobs, metrics, others(jobs, by) if by else over)


def write(table: SweepTable, sweep: Path, output: Path | None = None) -> Path:
    """Write `report.csv`, `report.md` and `report.html` into the sweep's folder or `output`, which is returned.

    UserError if nothing can be written there.
    """
    folder, title = sweep if output is None else output, f"Sweep {sweep.resolve().name}"
    page = sweep_page(table, title, folder).encode("utf-8", "replace")  # bytes of a name that are no text
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "report.csv", csv_table(table))
        write_atomically(folder / "report.md", f"# {title}\n\n{markdown_table(table)}")
        write_atomically(folder / "report.html", page)
    except OSError as error:
        raise UserError(
            f"{folder}: the report cannot be written there ({error.strerror}); give --output DIR"
        ) from error
    return folder


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="anomap-report",
        description="What a sweep found: a table of mean ± standard deviation over seeds, as CSV, Markdown and HTML.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("sweep", nargs="+", type=Path, help="folder of a sweep; the reports go into the first")
    parser.add_argument("--output", type=Path, metavar="DIR", help="another folder for the reports")
    columns = f"numbers of metrics.json to compare (default: {', '.join(DEFAULT_METRICS)}, and the controls)"
    parser.add_argument("--metrics", type=_names, metavar="NAME,...", help=columns)
    means = parser.add_mutually_exclusive_group()
    means.add_argument("--by", type=_names, default=[], metavar="KEY,...", help="add means over all keys but these")
    means.add_argument("--over", type=_names, default=[], metavar="KEY,...", help="add means over these keys")
    return parser


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
