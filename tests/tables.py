"""`scores.csv` of a run, read back."""

import csv
import os
import re

from anomap.runs.scores import SCORE_COLUMNS, ScoreRow


def unescape(cell: str) -> str:
    """The text that `escape_cell` was given."""
    return cell[1:] if re.match(r"'+[=+\-@\t\r]", cell) else cell


def read_scores(path: str | os.PathLike[str]) -> list[ScoreRow]:
    """What `write_scores` wrote."""
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        header, *lines = csv.reader(file)
    assert tuple(header) == SCORE_COLUMNS
    return [
        ScoreRow(unescape(name), label, unescape(defect), float(score), float(threshold), prediction)
        for name, label, defect, score, threshold, prediction in lines
    ]
