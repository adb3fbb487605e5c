"""The tables and the chart say what the results say, and nothing where there is nothing."""

from pathlib import Path
from typing import Any

import pytest

from anomap.errors import UserError
from benchmark import suite
from benchmark.chart import chart
from benchmark.plan import FULL
from benchmark.table import BEGIN, END, TABLES, insert, markdown

FACTS = {"machine": "a machine", "threads": 2, "rounds": 5, "date": "2026-01-02T03:04:05", "git_commit": "abc1234"}


def test_every_cell_asks_for_a_key_that_a_part_gives() -> None:
    known = suite.empty(FULL)
    asked = [column.of(name) for table in TABLES for _, name in table.rows for column in table.columns]
    assert [key for key in asked if key not in known] == []


def test_numbers_stand_in_the_row_and_column_of_their_key() -> None:
    results: dict[str, Any] = {
        **FACTS,
        "train_images_per_second_adgan": 1234.4,
        "framework_overhead_adgan": 1.037,
        "anomalib_train_images_per_second": 23.4,
        "auroc_default": 0.61234,
        "anomalib_auroc": 0.5,
    }
    lines = markdown(results).splitlines()
    assert "| `model=` | images/s | bare / anomap |" in lines
    assert "| `adgan` | 1,234 | 1.04 |" in lines
    assert "|  | training, images/s | AUROC on solar cells, same epochs |" in lines
    assert "| anomalib's GANomaly | 23 | 0.500 |" in lines
    assert "| `model=ganomaly`, anomap's default | – | 0.612 |" in lines
    assert "abc1234" in lines[0]
    assert "2026-01-02" in lines[0]


def test_tables_without_a_number_are_left_out() -> None:
    text = markdown({**suite.empty(FULL), **FACTS, "decode_images_per_second": 100.0})
    assert "### Data" in text
    assert text.count("###") == 1


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    text = markdown({**dict.fromkeys(suite.empty(FULL), 1.0), **FACTS})
    for block in text.split("### ")[1:]:
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in rows}) == 1
    assert text.count("### ") == len(TABLES)


def test_the_tables_go_between_the_marks_of_a_document_again_and_again(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for text in ("first \\1", "second"):
        insert(document, text)
        assert document.read_text() == f"before\n{BEGIN}\n{text}\n{END}\nafter\n"


def test_a_document_without_marks_is_told_and_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("nothing")
    with pytest.raises(UserError, match="put the lines"):
        insert(document, "tables")
    assert document.read_text() == "nothing"
    with pytest.raises(UserError, match="cannot be read"):
        insert(tmp_path / "none.md", "tables")


def test_the_documentation_has_a_place_for_the_tables() -> None:
    text = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
    assert text.index(BEGIN) < text.index(END)


def test_a_bar_is_as_long_as_its_number_and_an_empty_panel_says_so() -> None:
    training, scoring, shares, memory = chart(
        {"anomalib_train_images_per_second": 20.0, "train_images_per_second_default": 80.0}
    ).axes
    assert [bar.get_width() for bar in training.patches] == [20.0, 80.0]  # pyright: ignore[reportAttributeAccessIssue]
    assert [label.get_text() for label in training.get_yticklabels()] == ["anomalib", "default"]
    for axes in (scoring, shares, memory):
        assert [text.get_text() for text in axes.texts] == ["not measured"]
