"""The tables of a run: read back as they were written, and nothing in them that a spreadsheet would run."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomap.runs.scores import SCORE_COLUMNS, ScoreRow, write_scores
from tests.tables import read_scores

# File names as Linux has them: any text without NUL, and bytes that are not UTF-8 (surrogates DC80 to DCFF).
_TEXT = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
_NAMES = st.text(_TEXT | st.sampled_from("\udc80\udcff'=\r\n\t"))
_ROWS = st.builds(
    ScoreRow,
    path=_NAMES,
    label=st.sampled_from(["normal", "abnormal"]),
    defect=_NAMES,
    score=st.floats(allow_nan=False),
    threshold=st.floats(allow_nan=False),
    prediction=st.sampled_from(["normal", "abnormal"]),
)


@given(rows=st.lists(_ROWS, max_size=5))
def test_scores_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[ScoreRow]) -> None:
    path = tmp_path_factory.mktemp("scores") / "scores.csv"
    write_scores(path, iter(rows))
    assert read_scores(path) == rows


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "'=", "''@"])
def test_no_cell_starts_a_formula(tmp_path: Path, start: str) -> None:
    path = tmp_path / "scores.csv"
    rows = [ScoreRow.decide(f"{start}cmd|'/c calc'!A0.png", 1, f"{start}defect", 0.1 + 0.2, 0.25)]
    write_scores(path, rows)
    with open(path, newline="", encoding="utf-8") as file:
        header, cells = csv.reader(file)
    assert tuple(header) == SCORE_COLUMNS == ("path", "label", "defect", "score", "threshold", "prediction")
    assert cells[0][0] == cells[2][0] == "'"
    assert cells[3] == "0.30000000000000004"
    assert read_scores(path) == rows


def test_a_score_at_the_threshold_is_normal() -> None:
    assert ScoreRow.decide("a", 1, "x", 0.5, 0.5).prediction == "normal"
    assert ScoreRow.decide("a", 0, "x", float(np.nextafter(0.5, 1)), 0.5).prediction == "abnormal"


def test_labels_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="normal"):
        write_scores(tmp_path / "scores.csv", [ScoreRow("a", "good", "x", 1.0, 0.5, "normal")])
    assert list(tmp_path.iterdir()) == []
