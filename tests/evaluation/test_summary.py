"""The table at the end of a command."""

from pathlib import Path

import pytest

from anomap.evaluation.summary import print_summary, readable
from anomap.runs.folder import RunFolder


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0000"), (0.12345, "0.1235"), (-3.0, "-3.0000"), (3.2e-7, "3.200e-07"), (2.1e18, "2.100e+18")],
)
def test_a_number_is_never_rounded_to_nothing_nor_a_row_of_digits(value: float, text: str) -> None:
    assert readable(value) == text


def test_measures_notes_controls_and_places_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunFolder(tmp_path)
    run.report.touch()
    metrics = {
        "model": "m",
        "data": "d",
        "image_size": "32x32",
        "checkpoint": "c.ckpt",
        "n_train": 3,
        "image_auroc": 0.75,
        "image_ap": None,
        "threshold": 4e-5,
        "threshold_strategy": "quantile",
        "score_images_per_second": 123.456,
        "control_mean_auroc": 0.5,
        "test_note": "few images",
        "pixel_note": "a mask is empty",
    }
    print_summary(metrics, run)
    out = capsys.readouterr().out
    rows = {tuple(cell.strip() for cell in line.strip("│").split("│")) for line in out.splitlines() if "│" in line}
    assert rows == {
        ("image AUROC", "0.7500"),
        ("threshold (quantile)", "4.000e-05"),
        ("scoring images/s", "123.5"),
        ("image AUROC of control_mean", "0.5000"),
    }
    assert "note: few images" in out
    assert "note: a mask is empty" in out
    assert f"report       {run.report}\ncheckpoint   c.ckpt\n" in out


def test_brackets_in_names_are_no_markup_and_sizes_are_pixels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(tmp_path / "old [red]")
    run.path.mkdir()
    metrics = {
        "model": "m",
        "data": "d",
        "image_size": "32",
        "threshold_strategy": "quantile",
        "checkpoint": "[b].ckpt",
        "training_note": "part[left].png and [/b]",
        "estimate_spot_tpr": 0.5,
        "estimate_size_4_tpr": 0.6,
        "estimate_size_4_px": 5,
        "estimate_size_2_tpr": 0.3,
        "estimate_size_2_px": 3,
    }
    print_summary(metrics, run)
    out = capsys.readouterr().out
    assert f"results      {run.path}\ncheckpoint   [b].ckpt" in out
    assert "note: part[left].png and [/b]" in out
    assert "caught spot 50 %; 3 px 30 %, 5 px 60 %" in out
