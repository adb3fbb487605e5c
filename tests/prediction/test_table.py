"""A table that grows: complete lines survive whatever ends the process."""

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from anomap.errors import UserError
from anomap.prediction import table as prediction_table
from anomap.prediction.table import (
    PREDICTION_COLUMNS,
    GrowingTable,
    PredictionRow,
    mend,
    read_predictions,
    write_parquet,
)

NAMES = ["a.png", "=1+1.png", "'=x.png", 'with "quotes", commas.png', "two\r\nlines\n.png", "zoë.png", "\udcff.png"]
ROWS = [PredictionRow.decide(name, number / 3, 1.0) for number, name in enumerate(NAMES)]


def write(path: Path, rows: list[PredictionRow]) -> None:
    with GrowingTable(path, PREDICTION_COLUMNS) as table:
        table.append([row.cells() for row in rows])


def test_rows_come_back_as_they_were_appended(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    for row in ROWS:
        write(path, [row])
    assert list(read_predictions(path)) == ROWS
    assert [row.prediction for row in ROWS] == ["normal"] * 4 + ["abnormal"] * 3  # 3 / 3 is not above 1
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        plain = list(csv.reader(file))
    assert plain[0] == ["path", "score", "threshold", "prediction"]
    assert plain[2][0] == "'=1+1.png"


def test_cut_anywhere_the_complete_lines_are_kept_and_the_rest_can_be_appended(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    write(path, ROWS)
    whole = path.read_bytes()
    lengths = []
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        mend(path)
        kept = list(read_predictions(path)) if path.stat().st_size else []
        assert kept == ROWS[: len(kept)]
        write(path, ROWS[len(kept) :])
        assert path.read_bytes() == whole
        lengths.append(len(kept))
    assert lengths == sorted(lengths)
    assert set(lengths) == set(range(len(ROWS)))


@pytest.mark.parametrize(
    "content", [b"path,label\r\nx,normal\r\n", b"path,score,threshold,prediction\nx,1.0,1.0,normal\n"]
)
def test_another_file_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scores.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not as anomap-predict wrote it"):
        mend(path)
    with pytest.raises(UserError, match="not as anomap-predict wrote it"):
        list(read_predictions(path))
    assert path.read_bytes() == content


@pytest.mark.parametrize("line", [b"a.png,1.0,1.0\r\n", b"a.png,x,1.0,normal\r\n", b"a.png,1.0,1.0,good\r\n"])
def test_a_malformed_line_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "scores.csv"
    write(path, ROWS[:1])
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(UserError, match="record 3"):
        list(read_predictions(path))


def test_parquet_holds_the_same_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_table, "_ROW_GROUP", 3)
    write(tmp_path / "scores.csv", ROWS)
    write_parquet(tmp_path / "scores.csv", tmp_path / "scores.parquet")
    file = pq.ParquetFile(tmp_path / "scores.parquet")
    assert file.metadata.num_row_groups == 3
    table = file.read().to_pylist()
    assert [row["path"] for row in table] == [*NAMES[:-1], "\\udcff.png"]  # Parquet holds UTF-8 only
    assert [(row["score"], row["prediction"]) for row in table] == [(row.score, row.prediction) for row in ROWS]
    assert {path.name for path in tmp_path.iterdir()} == {"scores.csv", "scores.parquet"}


def test_a_parquet_file_that_cannot_be_made_leaves_the_old_one(tmp_path: Path) -> None:
    write(tmp_path / "scores.csv", ROWS)
    write_parquet(tmp_path / "scores.csv", tmp_path / "scores.parquet")
    old = (tmp_path / "scores.parquet").read_bytes()
    (tmp_path / "scores.csv").write_bytes((tmp_path / "scores.csv").read_bytes() + b"bad\r\n")
    with pytest.raises(UserError):
        write_parquet(tmp_path / "scores.csv", tmp_path / "scores.parquet")
    assert (tmp_path / "scores.parquet").read_bytes() == old
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_is_one_line() -> None:
    with pytest.raises(UserError, match="No space left"):
        GrowingTable(Path("/dev/full"), PREDICTION_COLUMNS)
