"""The page of a sweep in a browser: no message on the console, sorting, and everything in sight on a phone."""

import re
from pathlib import Path

from anomap.commands.report import report
from tests.runs.test_sweeps import sweep, write_job
from tests.viewing.test_report import needs_chromium, open_page

__all__ = ["sweep"]  # the fixture

SORT = """
  const note = (key, value) => { document.body.dataset[key] = value; };
  const rows = () => Array.from(document.querySelectorAll("#table tbody tr"));
  const column = (k) => rows().map((row) => row.cells[k].textContent.trim()).join(" ");
  const press = (k) => document.querySelectorAll("#table th button")[k].click();
  note("before", column(1));
  press(1); note("up", column(1));
  press(1); note("down", column(1));
  press(3); note("auroc", column(0));
  note("sorted", document.querySelectorAll("#table th[aria-sort]").length);
"""
FITS = """
  const box = document.querySelector(".scroll");
  document.body.dataset.fits = String(box.scrollWidth <= box.clientWidth);
"""


def noted(dom: str) -> dict[str, str]:
    """What the script left on the body."""
    return dict(re.findall(r'data-(\w+)="([^"]*)"', dom.split("<body", 1)[1].split(">", 1)[0]))


@needs_chromium
def test_pressing_a_heading_sorts_and_nothing_is_said_on_the_console(sweep: Path) -> None:
    report([sweep])
    seen = noted(open_page(sweep / "report.html", action=SORT))
    assert seen == {
        "before": "32 128 32 128",
        "up": "32 32 128 128",
        "down": "128 128 32 32",
        "auroc": "b b a a",  # the best first
        "sorted": "1",
    }


@needs_chromium
def test_numbers_are_sorted_as_numbers_also_beside_a_note(tmp_path: Path) -> None:
    for quantile in ("0.85", "0.9", "0.99", "0.995"):
        note = "too few" if quantile == "0.9" else None
        write_job(
            tmp_path, quantile, f"threshold.quantile={quantile}", threshold=float(quantile), threshold_note=note, seed=0
        )
    report([tmp_path])
    action = SORT.split('note("before"')[0] + 'press(0); press(0); note("down", column(0));'
    assert (
        noted(open_page(tmp_path / "report.html", action=action))["down"] == "0.995 0.99 0.91 0.85"
    )  # 0.9 and its note 1


@needs_chromium
def test_all_columns_of_two_models_and_four_controls_fit(tmp_path: Path) -> None:
    controls = ("darkness", "mean", "pca", "nearest_neighbour")
    shares = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pixel_aupro", "test_fpr", "test_tpr")
    others = ("train_seconds", "score_images_per_second", "score_mflop_per_image")
    for k, model in enumerate(("skip_cbam_sa_ganomaly", "feature_attention_network")):
        for seed in (0, 1):
            value = 0.5 + k / 10 + seed / 100
            numbers = dict.fromkeys((*shares, *(f"control_{name}_auroc" for name in controls)), value)
            overrides = [f"model={model}", f"data.image_size={64 + 64 * k}", f"seed={seed}"]
            write_job(tmp_path, f"{model}{seed}", *overrides, **numbers, **dict.fromkeys(others, 1000 * value))
    report([tmp_path])
    assert len(re.findall('<th scope="col"', (tmp_path / "report.html").read_text(encoding="utf-8"))) == 17
    assert noted(open_page(tmp_path / "report.html", action=FITS))["fits"] == "true"
