"""The page of a sweep: one self-contained HTML file with a sortable table, charts, and every job that has no result."""

import os
import re
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup, escape

from anomap.runs.folder import RunFolder
from anomap.runs.jobs import Job, as_number
from anomap.runs.sweeps import SweepTable
from anomap.viewing.html import render, source
from anomap.viewing.metric_names import name
from anomap.viewing.sweep_chart import HEIGHT, WIDTH, charts
from anomap.viewing.sweep_tables import constants, noted, written


def sweep_page(table: SweepTable, title: str, folder: Path) -> str:
    """The HTML of a page that will lie in `folder`, where the links to the jobs' own reports start."""
    return render(
        "sweep.html.j2",
        title=title,
        table=table,
        charts=charts(table),
        width=WIDTH,
        height=HEIGHT,
        written=written,
        name=name,
        as_number=as_number,
        soft=_soft,
        constants=constants(table),
        noted=noted(table),
        link=lambda job: _link(job, folder),
        style=source("report.css", "sweep.css"),
        script=source("sweep.js"),
    )


def _soft(text: str) -> Markup:
    """A name that may be broken before its parts, so that the table fits the page."""
    return Markup(re.sub(r"([._])(?=[A-Za-z])", r"\1<wbr>", str(escape(text))))


def _link(job: Job, folder: Path) -> str:
    """Relative address of the job's own report, or nothing."""
    page = RunFolder(job.folder).report
    relative = Path(os.path.relpath(page.resolve(), folder.resolve())).as_posix()
    return quote(relative, errors="surrogateescape") if page.is_file() else ""
