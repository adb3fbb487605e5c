"""The scores of a prediction: parts that are whole or not there, and the two tables that are made of them."""

import csv
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from anomap.errors import UserError
from anomap.prediction.table import (
    PREDICTION_COLUMNS,
    PredictionRow,
    as_name,
    as_text,
    drop_changed,
    read_rows,
    state_of,
    write_part,
    write_tables,
)
from tests.tables import unescape

NAMES = ["a.png", "=1+1.png", "'=x.png", 'with "quotes", commas.png', "two\r\nlines\n.png", "zoë.png", "\udcff.png"]
TEXTS = [*NAMES[:-1], "\\udcff.png"]
ROWS = [PredictionRow.decide(name, number / 3, 1.0) for number, name in enumerate(NAMES)]


def write(folder: Path, rows: list[PredictionRow]) -> None:
    write_part(folder, [row.path for row in rows], rows)


def test_a_name_that_is_no_text_can_still_be_opened() -> None:
    assert [as_text(name) for name in NAMES] == TEXTS
    assert [as_name(text) for text in TEXTS] == NAMES


def test_the_tables_hold_all_parts_sorted(tmp_path: Path) -> None:
    for rows in (ROWS[5:], ROWS[:2], ROWS[2:5]):
        write(tmp_path, rows)
    write(tmp_path, ROWS[:2])  # once more, as after a worker that was lost
    assert drop_changed(tmp_path, tmp_path / "emptied").names == set(TEXTS)
    assert sorted(row.score for row in read_rows(tmp_path)) == [row.score for row in ROWS]
    write_tables(tmp_path)
    expected = sorted(zip(TEXTS, ROWS, strict=True), key=lambda pair: pair[0])
    assert [row.prediction for row in ROWS] == ["normal"] * 4 + ["abnormal"] * 3  # 3 / 3 is not above 1
    table = pq.read_table(tmp_path / "scores.parquet")
    assert tuple(table.column_names) == PREDICTION_COLUMNS
    assert [(row["path"], row["score"], row["threshold"], row["prediction"]) for row in table.to_pylist()] == [
        (text, row.score, row.threshold, row.prediction) for text, row in expected
    ]
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert tuple(header) == PREDICTION_COLUMNS == ("path", "score", "threshold", "prediction")
    assert [(unescape(path), *cells) for path, *cells in lines] == [
        (text, repr(row.score), "1.0", row.prediction) for text, row in expected
    ]
    assert not any(path.startswith(("=", "+", "-", "@")) for path, *_ in lines)
    assert {path.name for path in tmp_path.iterdir()} == {"scores", "scores.csv", "scores.parquet"}


def test_scores_of_files_that_have_changed_are_dropped(tmp_path: Path) -> None:
    """By size or by time; what is gone keeps its scores, and parts without a change are not written again."""
    root, out = tmp_path / "in", tmp_path / "out"
    root.mkdir()
    for name in "abcdef":
        (root / name).write_text(name)
    for names in ("ab", "cd", "ef"):
        write(out, [PredictionRow.decide(name, ord(name), 100.0, state_of(root / name)) for name in names])
    times = {path: path.stat().st_mtime_ns for path in (out / "scores").iterdir()}
    earlier = drop_changed(out, root)
    assert (earlier.names, earlier.changed, earlier.gone) == (set("abcdef"), [], 0)
    assert {path: path.stat().st_mtime_ns for path in (out / "scores").iterdir()} == times
    was = (root / "a").stat()
    (root / "a").write_text("longer")
    os.utime(root / "a", ns=(was.st_atime_ns, was.st_mtime_ns))  # another size, the same time
    os.utime(root / "c", ns=(was.st_atime_ns, was.st_mtime_ns + 1))  # the same size, another time
    os.utime(root / "d", ns=(was.st_atime_ns, was.st_mtime_ns - 1))
    (root / "f").unlink()
    earlier = drop_changed(out, root)
    assert (earlier.names, sorted(earlier.changed), earlier.gone) == (set("bef"), ["a", "c", "d"], 1)
    assert sorted(row.path for row in read_rows(out)) == ["b", "e", "f"]
    assert len(list((out / "scores").iterdir())) == 2
    write_tables(out)
    assert tuple(pq.read_table(out / "scores.parquet").column_names) == PREDICTION_COLUMNS


def test_scores_of_a_version_that_stored_no_state_are_dropped_where_the_file_is_there(tmp_path: Path) -> None:
    write(tmp_path, ROWS[:1])
    (part,) = (tmp_path / "scores").iterdir()
    pq.write_table(pq.read_table(part).select(PREDICTION_COLUMNS), part)
    assert drop_changed(tmp_path, tmp_path).names == {NAMES[0]}
    (tmp_path / NAMES[0]).touch()
    assert drop_changed(tmp_path, tmp_path).changed == [NAMES[0]]


def test_without_an_image_the_tables_have_a_header_only(tmp_path: Path) -> None:
    write_tables(tmp_path)
    assert (tmp_path / "scores.csv").read_bytes() == b"path,score,threshold,prediction\r\n"
    assert pq.read_table(tmp_path / "scores.parquet").num_rows == 0


@pytest.mark.parametrize("content", [b"PAR1 torn", b""])
def test_a_part_that_is_none_is_named_and_the_tables_stay(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, ROWS)
    write_tables(tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in ("scores.csv", "scores.parquet")}
    (tmp_path / "scores" / "part-0.parquet").write_bytes(content)
    for asked in (lambda folder: drop_changed(folder, folder), write_tables, lambda folder: list(read_rows(folder))):
        with pytest.raises(UserError, match=r"part-0.parquet: not written by anomap-predict; delete it"):
            asked(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


def test_a_part_of_other_columns_is_named(tmp_path: Path) -> None:
    (tmp_path / "scores").mkdir()
    pq.write_table(pq.read_table(_other(tmp_path)), tmp_path / "scores" / "part-0.parquet")
    with pytest.raises(UserError, match="not written by anomap-predict"):
        drop_changed(tmp_path, tmp_path)


def _other(folder: Path) -> Path:
    import pyarrow as pa

    pq.write_table(pa.table({"x": [1]}), folder / "other.parquet")
    return folder / "other.parquet"


def test_a_disk_without_room_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left"):
        write(tmp_path, ROWS)
    with pytest.raises(UserError, match=r"cannot be written to .*No space left"):
        write_tables(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["scores"]


def test_memory_does_not_grow_with_python_objects(tmp_path: Path) -> None:
    """Rows become Python objects a few at a time: what Arrow holds of an image is its name and three cells."""
    import tracemalloc

    for part in range(20):
        write(tmp_path, [PredictionRow.decide(f"{part:02d}/{n:05d}.png", n, 1.0) for n in range(1000)])
    tracemalloc.start()
    try:
        write_tables(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3e6  # 20,000 rows as objects would take 10 MB
