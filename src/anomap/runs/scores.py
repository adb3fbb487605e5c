"""The tables of a run: `scores.csv` (one test image per line) and `thresholds.csv` (one threshold per line)."""

import csv
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain

from anomap.runs.folder import replacing

NORMAL, ABNORMAL = "normal", "abnormal"


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One line of `scores.csv`: one test image, what it is and what was decided."""

    path: str  # relative to the data root
    label: str  # normal | abnormal
    defect: str  # name of the test sub-folder
    score: float  # raw anomaly score, higher = more abnormal
    threshold: float
    prediction: str  # abnormal iff score > threshold

    @classmethod
    def decide(cls, path: str, label: int, defect: str, score: float, threshold: float) -> "ScoreRow":
        """The row of an image with `label` 0 or 1."""
        score, threshold = float(score), float(threshold)
        prediction = ABNORMAL if score > threshold else NORMAL
        return cls(path, ABNORMAL if label else NORMAL, defect, score, threshold, prediction)


SCORE_COLUMNS = tuple(field.name for field in fields(ScoreRow))

# What a spreadsheet runs as a formula. Apostrophes in front count too: a name may really begin with '=
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def escape_cell(cell: str) -> str:
    """Text that a spreadsheet shows and never runs."""
    return "'" + cell if _FORMULA.match(cell) else cell


def unescape_cell(cell: str) -> str:
    """What `escape_cell` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def write_csv(path: str | os.PathLike[str], rows: Iterable[Sequence[str]]) -> None:
    """Write lines of cells, the header first, whole or not at all; names that are no UTF-8 keep their bytes."""
    with replacing(path) as file:
        text = io.TextIOWrapper(file, "utf-8", "surrogateescape", newline="", write_through=True)
        # csv quotes only the terminator's own characters: with \r\n it quotes both, and a name may hold either
        csv.writer(text, lineterminator="\r\n").writerows(rows)
        text.detach()


def write_scores(path: str | os.PathLike[str], rows: Iterable[ScoreRow]) -> None:
    """Write `scores.csv`; scores keep every digit, and text that a spreadsheet would run is escaped."""
    write_csv(path, chain([SCORE_COLUMNS], map(_cells, rows)))


def _cells(row: ScoreRow) -> tuple[str, ...]:
    if not {row.label, row.prediction} <= {NORMAL, ABNORMAL}:
        raise ValueError(f"{row.path!r}: label and prediction must be {NORMAL!r} or {ABNORMAL!r}")
    numbers = repr(float(row.score)), repr(float(row.threshold))
    return escape_cell(row.path), row.label, escape_cell(row.defect), *numbers, row.prediction


def write_thresholds(path: str | os.PathLike[str], rows: Sequence[Mapping[str, float | None]]) -> None:
    """Write `thresholds.csv`, at least one row of equal keys; every digit is kept, None is an empty cell."""
    lines = (["" if value is None else repr(float(value)) for value in row.values()] for row in rows)
    write_csv(path, [list(rows[0]), *lines])
