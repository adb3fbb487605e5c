"""The documents' numbers: README says what docs/results.md says, and that says what is kept of the runs."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import published
from published import DOCUMENTS, Printed, Row, kept, printed, sources

README, RESULTS = DOCUMENTS


def unknown(here: list[Printed], there: list[Printed]) -> list[str]:
    """The numbers of one document that no number of the other rounds to."""
    return [f"{number.place} {number.mean} ± {number.sd}" for number in here if not any(map(number.rounds, there))]


def test_readme_says_what_the_results_say() -> None:
    assert len(printed(README)) > 8
    assert unknown(printed(README), printed(RESULTS)) == []


def test_a_number_that_changed_in_one_document_is_found() -> None:
    there = [Printed("results", "0.9223", "0.0032"), Printed("results", "0.023", "0.008")]
    for mean, sd, percent in (("0.922", "0.003", False), ("2.3", "0.8", True)):
        assert unknown([Printed("README", mean, sd, percent)], there) == []
    for mean, sd in (("0.923", "0.003"), ("0.921", "0.003"), ("0.922", "0.004"), ("0.022", "0.008")):
        assert unknown([Printed("README", mean, sd)], there) == [f"README {mean} ± {sd}"]


@pytest.mark.parametrize("row", [row for row in kept() if "image_auroc" in dict.fromkeys(row.values)], ids=str)
def test_the_results_print_what_is_kept(row: Row) -> None:
    """The image AUROC of every row with several seeds; a row of one, and of an ablation, is printed seed by seed."""
    values = row.values["image_auroc"]
    numbers = printed(RESULTS)
    text = RESULTS.read_text()
    if len(values) == 3:
        [found] = [pair for metric, *pair in row.summary() if metric == "image_auroc"]
        assert any(number.shows(*found) for number in numbers)
    else:
        assert ", ".join(f"{value:.3f}" for value in values) in text


def test_runs_that_differ_in_the_seed_are_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "KEPT", tmp_path)
    facts: dict[str, Any] = {"data": "elpv", "threshold": 3.0, "part_map_auroc": None}
    runs = {f"a model, seed {seed}": {**facts, "image_auroc": 0.9 + 0.01 * seed} for seed in range(3)}
    published.keep("x", {**runs, "another, seed 0": {"image_auroc": 0.5}}, "anomap-train", "here", "2026-11-26")
    rows = kept(tmp_path)
    assert [(row.name, dict(row.values)) for row in rows] == [
        ("a model", {"image_auroc": [0.9, 0.91, 0.92]}),
        ("another", {"image_auroc": [0.5]}),
    ]
    number = Printed("README.md:1", "0.910", "0.010")
    assert sources(number, rows) == [(rows[0], "image_auroc")]
    assert sources(Printed("README.md:1", "0.910", "0.011"), rows) == []
