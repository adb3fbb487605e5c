"""`suspicious.csv`: the training images of a run, how unlike the others each is, and the verdict, which people may edit."""

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import chain

from anomap.runs.scores import escape_cell, unescape_cell, write_csv

SUSPICIOUS, OK = "suspicious", "ok"
TRAIN, CALIBRATION, TRIMMED = "train", "calibration", "trimmed"


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One line: an image from the training folder, scored as if it had been left out of training."""

    path: str  # relative to the data root
    role: str  # train | calibration | trimmed, by data.contamination
    score: float  # higher = less like the others
    robust_z: float  # of the score's logarithm: deviations above the median
    verdict: str  # suspicious | ok


COLUMNS = tuple(field.name for field in fields(TrainingRow))


def write_suspicious(path: str | os.PathLike[str], rows: Iterable[TrainingRow]) -> None:
    """Write it whole or not at all; every digit is kept."""
    lines = ((escape_cell(row.path), row.role, repr(row.score), repr(row.robust_z), row.verdict) for row in rows)
    write_csv(path, chain([COLUMNS], lines))


def called_suspicious(text: str) -> list[str] | None:
    """The paths with that verdict, if `text` is such a table; None for any other text. ValueError: a verdict is none."""
    first = text.partition("\n")[0]
    delimiter = ";" if ";" in first else ","  # some spreadsheets write that
    if not {"path", "verdict"} <= {*first.strip().split(delimiter)}:
        return None
    lines = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows = [row for row in lines if row["path"]]
    for row in rows:
        if row["verdict"] not in (SUSPICIOUS, OK):
            raise ValueError(f"verdict {row['verdict']!r} of {row['path']}: write {SUSPICIOUS} or {OK}")
    return [unescape_cell(row["path"]) for row in rows if row["verdict"] == SUSPICIOUS]
