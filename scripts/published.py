"""Where the documents' numbers come from: the kept metrics of published runs, and each number beside its source.

    python scripts/published.py                                   # every "mean ± sd" of README and docs/results.md, and its source
    python scripts/published.py keep elpv RUN RUN --machine "2 cores" --command "anomap-train -m experiment=elpv seed=0,1"

`keep` copies the numbers of the runs' `metrics.json` to `docs/measured/NAME.json`: runs that differ in the seed alone are one
row, and their mean ± sample standard deviation is what the documents print. A number without a source is said to have none.
`tests/test_numbers.py` holds README to docs/results.md, and docs/results.md to what is kept.
"""

import argparse
import datetime
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from anomap.runs.folder import read_metrics

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "docs" / "measured"
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "results.md")
METRICS = re.compile(r"(image_|pixel_|part_|test_[ft]pr$|train_seconds$|score_images)")  # that documents print
PAIR = re.compile(r"(-?\d+\.\d+) ± (\d+\.\d+)( %)?")


@dataclass(frozen=True)
class Printed:
    """A "mean ± sd" of a document."""

    place: str  # file:line
    mean: str
    sd: str
    percent: bool = False

    def shows(self, value: float, deviation: float) -> bool:
        """Whether these two are what is printed, rounded as it is."""
        scale, digits = (100 if self.percent else 1), len(self.mean.partition(".")[2])
        return f"{value * scale:.{digits}f}" == self.mean and f"{deviation * scale:.{digits}f}" == self.sd

    def rounds(self, other: "Printed") -> bool:
        """Whether it is another one, printed with as many digits or more, rounded: half a last digit may have been lost."""
        factor = (100 if self.percent else 1) / (100 if other.percent else 1)
        step, its = 10 ** -len(self.mean.partition(".")[2]), factor * 10 ** -len(other.mean.partition(".")[2])
        lost = (step + its) / 2 if its < 0.99 * step else 0.0
        pairs = ((self.mean, other.mean), (self.sd, other.sd))
        return all(abs(float(here) - factor * float(there)) <= lost + 1e-9 for here, there in pairs)


@dataclass(frozen=True)
class Row:
    """Runs that differ in the seed alone."""

    kept: str  # name of the file in docs/measured
    name: str
    command: str
    values: Mapping[str, list[float]]  # metric -> one for each seed

    def summary(self) -> Iterator[tuple[str, float, float]]:
        """Metric, mean, sample standard deviation; of one run nothing."""
        for metric, values in self.values.items():
            if len(values) > 1:
                yield metric, mean(values), stdev(values)


def printed(path: Path) -> list[Printed]:
    """Every "mean ± sd" of a Markdown file."""
    lines = enumerate(path.read_text().splitlines(), start=1)
    return [
        Printed(f"{path.relative_to(ROOT)}:{number}", found[1], found[2], found[3] is not None)
        for number, line in lines
        for found in PAIR.finditer(line)
    ]


def kept(folder: Path = KEPT) -> list[Row]:
    """Every row that is kept."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text())
        for name, values in content["rows"].items():
            rows.append(Row(path.stem, name, content["command"], values))
    return rows


def keep(name: str, runs: Mapping[str, Mapping[str, Any]], command: str, machine: str, date: str) -> Path:
    """Write the numbers of runs, given their `metrics.json` by name; those whose names differ in a last `seed N` are one row."""
    rows: dict[str, dict[str, list[float]]] = {}
    for run, metrics in runs.items():
        row = rows.setdefault(re.sub(r",? ?seed \d+$", "", run) or "all", {})
        for metric, value in metrics.items():
            if METRICS.match(metric) and isinstance(value, int | float):
                row.setdefault(metric, []).append(round(value, 6))
    content = {"command": command, "machine": machine, "date": date, "rows": rows}
    path = KEPT / f"{name}.json"
    text = json.dumps(content, indent=1, ensure_ascii=False)
    path.write_text(re.sub(r"\[\s+([^\]]*?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text) + "\n")
    return path


def sources(number: Printed, rows: list[Row]) -> list[tuple[Row, str]]:
    """The rows and metrics whose mean and deviation are what is printed."""
    return [(row, metric) for row in rows for metric, *values in row.summary() if number.shows(*values)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="what")
    keeping = commands.add_parser("keep", help="the numbers of runs, in docs/measured/NAME.json")
    keeping.add_argument("name")
    keeping.add_argument("runs", nargs="+", type=Path, help="folders of runs, each with its metrics.json")
    keeping.add_argument("--command", required=True, help="that made them")
    keeping.add_argument("--machine", required=True)
    options = parser.parse_args()
    if options.what == "keep":
        found = {}
        for run in options.runs:
            metrics = read_metrics(run / "metrics.json")
            found[f"{metrics['model']} on {metrics['data']}, seed {metrics['seed']}"] = metrics
        print(keep(options.name, found, options.command, options.machine, datetime.date.today().isoformat()))
        return
    rows = kept()
    for number in (number for path in DOCUMENTS for number in printed(path)):
        known = [f"{row.kept}.json {row.name} {metric} `{row.command}`" for row, metric in sources(number, rows)]
        print(
            f"{number.place}  {number.mean} ± {number.sd}{' %' * number.percent}  {known[0] if known else 'no source'}"
        )


if __name__ == "__main__":
    main()
