"""The page of a sweep: one self-contained HTML file with a sortable table, charts, and every job with its reason."""

import os
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from anomap.runs.folder import RunFolder
from anomap.runs.jobs import Job
from anomap.runs.sweeps import Table
from anomap.viewing import palette
from anomap.viewing.sweep_chart import HEIGHT, WIDTH, charts
from anomap.viewing.sweep_tables import label, seeds_and_settings, written

_TEMPLATES = Path(__file__).with_name("templates")


def sweep_page(table: Table, title: str, folder: Path) -> str:
    """The HTML.

    Args:
        table: what was found.
        title: the heading.
        folder: where the page will lie; links to the jobs' own reports start there.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("sweep.html.j2").render(
        title=title,
        table=table,
        charts=charts(table),
        width=WIDTH,
        height=HEIGHT,
        label=label,
        written=written,
        settings=seeds_and_settings,
        link=lambda job: _link(job, folder),
        palette=palette,
        style=Markup("\n".join(_read(name) for name in ("report.css", "sweep.css"))),
        script=Markup(_read("sweep.js")),
    )


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _link(job: Job, folder: Path) -> str:
    """Relative address of the job's own report, or nothing."""
    page = RunFolder(job.folder).report
    relative = Path(os.path.relpath(page.resolve(), folder.resolve())).as_posix()
    return quote(relative, errors="surrogateescape") if page.is_file() else ""
