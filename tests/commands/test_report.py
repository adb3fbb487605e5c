"""anomap-report: three files and a table, safe to open whatever the jobs are called; one line for what is wrong."""

import csv
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from anomap.commands import report as module
from anomap.commands.report import main, report
from anomap.viewing.sweep_chart import _LINE_GAP, HEIGHT, _spread, _ticks, charts
from tests.runs.test_sweeps import sweep, write_job

__all__ = ["sweep"]  # the fixture

NASTY = "</script><img src=x onerror=alert(1)>|`*"


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_three_files_and_the_table_on_the_terminal(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(sweep), "--by", "model"])
    shown = capsys.readouterr().out
    assert "| a | 32 | 3 | 0.562 ± 0.026 | 10 ± 10 |" in shown
    assert "| b | 128 | 1 | 0.738 | 0 |" in shown
    assert "| a | mean | 3 | 0.610 ± 0.026 | 10 ± 10 |" in shown
    assert "- b-128-2: failed: ValueError: lost" in shown
    assert (sweep / "report.md").read_text().partition("\n\n")[2] in shown
    rows = read_csv(sweep / "report.csv")
    assert [(row["model"], row["data.image_size"], row["n"]) for row in rows] == [
        *(("a", "32", "3"), ("a", "128", "3"), ("b", "32", "3"), ("b", "128", "1")),
        *(("a", "mean", "3"), ("b", "mean", "1")),
        *(("b", "128", "0"), ("b", "128", "0")),
    ]
    assert float(rows[0]["image_auroc"]) == pytest.approx(0.562, abs=1e-12)
    assert (rows[3]["image_auroc_sd"], rows[3]["image_auroc_n"]) == ("", "1")
    assert rows[-1]["note"] == "b-128-2: failed: ValueError: lost"
    assert not list(sweep.rglob(".tmp-*"))


def test_the_page_has_table_charts_and_reasons_and_needs_no_network(sweep: Path) -> None:
    (sweep / "a-32-0" / "report.html").write_text("")
    report([sweep])
    page = (sweep / "report.html").read_text(encoding="utf-8")
    assert "0.562<small> ± 0.026</small>" in page
    assert "ValueError: lost" in page
    assert page.count("<svg") == 2  # one for each metric, against the one numeric key
    assert 'href="./a-32-0/report.html"' in page
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<(img|link|iframe|object)\b", page)
    assert "default-src 'none'" in page


def test_names_are_text_wherever_they_appear(tmp_path: Path) -> None:
    write_job(tmp_path, "x", f"model={NASTY}", "+note==1+1", image_auroc=0.5, seed=0)
    write_job(tmp_path, "-y", "model=plain", "+note=-2", error=f"{NASTY}\n")
    table = report([tmp_path])
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 1
    assert "<img" not in page
    cells = read_csv(tmp_path / "report.csv")
    assert cells[0]["note"] or cells[0]["model"] == NASTY
    lines = (tmp_path / "report.csv").read_text().splitlines()
    assert ",'=1+1," in lines[1]
    assert ",-2," in lines[2]  # a number, no formula
    assert lines[2].endswith(f'"\'-y: failed: {NASTY}"') or "'-y: failed" in lines[2]
    row = next(line for line in (tmp_path / "report.md").read_text().splitlines() if "onerror" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == len(table.keys) + len(table.metrics) + 2
    assert "\\<img" in row


def test_a_sweep_of_which_nothing_finished_still_says_why(tmp_path: Path) -> None:
    write_job(tmp_path, "x", "seed=0", error="data.root: no such folder\n")
    report([tmp_path], ["image_auroc"])
    for name in ("report.csv", "report.md", "report.html"):
        assert "data.root: no such folder" in (tmp_path / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["."], "no job inside"),
        ([], "required: sweep"),
        (["sweep", "--metrics", "auroc"], "--metrics auroc"),
        (["sweep", "--by", "size"], "--by size"),
        (["sweep", "--over", "size"], "size did not vary"),
        (["sweep", "--by", "a", "--over", "b"], "not allowed with"),
        (["sweep/job"], "one run's folder"),
    ],
)
def test_what_the_user_got_wrong_is_one_line_and_exit_status_2(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if arguments[:1] != ["."]:
        write_job(tmp_path / "sweep", "job", "seed=0", image_auroc=0.5)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert len(error.splitlines()) == 1
    assert error.startswith("error: ")
    assert words in error
    assert not (tmp_path / "sweep" / "job" / "report.html").exists()


def test_a_process_of_its_own_is_quick_because_it_loads_neither_torch_nor_hydra(sweep: Path) -> None:
    code = "import sys; from anomap.cli.entry import report; report(); print({'torch', 'hydra'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, sweep], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


QUANTILES = (  # quantile, promise, threshold, false alarms, caught, note
    ("0.8", 0.2, 1.0, 0.1, 0.9, None),
    ("0.95", 0.05, 1.2, 0.02, 0.8, None),
    ("0.98", 0.02, 1.3, 0.02, 0.8, None),
    ("0.99", 0.0164, 1.5, 0.0, 0.7, "60 are too few"),
    ("0.995", 0.0164, 1.5, 0.0, 0.7, "60 are too few for 0.995"),
)


@pytest.fixture
def thresholds(tmp_path: Path) -> Path:
    """A detector evaluated at several quantiles."""
    for quantile, promised, threshold, false, caught, note in QUANTILES:
        numbers = {"promised_fpr": promised, "threshold": threshold, "test_fpr": false, "test_tpr": caught}
        constant = {"image_auroc": 0.93, "score_images_per_second": 23.0, "seed": 0}
        overrides = ["checkpoint=last.ckpt", f"threshold.quantile={quantile}"]
        write_job(tmp_path, quantile, *overrides, threshold_note=note, **numbers, **constant)
    return tmp_path


def test_a_sweep_of_thresholds_shows_what_they_promise_and_do(thresholds: Path) -> None:
    table = report([thresholds])
    text = (thresholds / "report.md").read_text(encoding="utf-8")
    assert "| threshold.quantile | n | promised at most | threshold | false alarms | caught |" in text
    assert "| 0.95 | 1 | 5.0 % | 1.2 | 2.0 % | 80.0 % |" in text
    assert "All: checkpoint=last.ckpt, image AUROC=0.930, images/s=23" in text
    assert "image_auroc" in (thresholds / "report.csv").read_text()  # for programs every number
    assert [row.note for row in table.rows] == [
        *("", "", "no test image scores between this threshold and that of 0.95", "60 are too few"),
        "the same threshold as 0.99: 60 are too few for 0.995",
    ]
    assert all(row.note in text for row in table.rows)
    page = (thresholds / "report.html").read_text(encoding="utf-8")
    assert page.count('href="#note-') == page.count('id="note-') == 3
    assert page.count('class="reference" d=') == 1  # the promise, beside the false alarms


def test_a_note_that_all_rows_share_is_said_once(sweep: Path) -> None:
    for path in sweep.glob("*/metrics.json"):
        path.write_text(path.read_text().replace("{", '{"threshold_note": "5 are too few", "image_size": "32x32", ', 1))
    table = report([sweep])
    assert table.note == "5 are too few"
    assert {row.note for row in table.rows} == {""}
    assert (sweep / "report.md").read_text().count("5 are too few") == 1


def test_charts_have_chance_and_controls_and_stay_within_what_is_possible(tmp_path: Path) -> None:
    for size in (32, 64):
        for seed, auroc in enumerate((1.0, 0.9, 1.0)):
            write_job(
                *(tmp_path, f"{size}-{seed}", f"data.image_size={size}", f"seed={seed}"),
                image_auroc=auroc - (size - 32) / 3200,
                test_fpr=0.09 * (seed == 2),
                control_pca_auroc=0.45 + size / 1000,
                control_mean_auroc=0.6,
                score_mflop_per_image=size**2,
            )
    table = report([tmp_path])
    assert table.columns == ("image_auroc", "score_mflop_per_image", "control_pca_auroc")
    assert list(table.constant) == ["test_fpr", "control_mean_auroc"]
    auroc, cost = charts(table)
    assert [chart.title for chart in (auroc, cost)] == ["image AUROC", "MFLOP"]
    lines = {line.name: [y for _, y in line.points] for line in auroc.references}
    assert lines.keys() == {"chance", "pca", "mean"}
    assert lines["mean"][0] == lines["mean"][1] < lines["pca"][1]  # a smaller y is a larger value
    assert lines["pca"][1] < lines["chance"][0] == lines["chance"][1] < lines["pca"][0]
    assert cost.references == []
    assert auroc.y_ticks[-1][1] == "1"
    assert {point.high for curve in auroc.curves for point in curve.points} == {auroc.frame[1]}  # the top, where 1 is


def test_heights_of_names_do_not_overlap_nor_leave_the_chart() -> None:
    placed = _spread({"a": 100.0, "b": 101.0, "c": 255.0, "d": 256.0, "e": 20.0})
    heights = sorted(placed.values())
    assert all(later - earlier >= _LINE_GAP - 1e-9 for earlier, later in itertools.pairwise(heights))
    assert heights[-1] <= HEIGHT
    assert sorted(placed, key=lambda name: placed[name]) == ["e", "a", "b", "c", "d"]


def test_no_axis_of_a_rate_goes_beyond_one() -> None:
    assert _ticks([0.62, 1.0], 1.0)[-1] == 1.0
    assert _ticks([0.97, 0.991], 1.0)[-1] <= 1.0
    assert _ticks([1.0, 1.0], 1.0)[-1] == 1.0


@pytest.mark.parametrize("values", [(0.5, 0.62), (0.9, 0.9), (-3.0, 1e5), (0.0, 0.0), (0.912, 0.9121)])
def test_ticks_are_few_round_and_enclose(values: tuple[float, float]) -> None:
    ticks = _ticks(values)
    assert ticks[0] <= min(values) + 1e-9
    assert ticks[-1] >= max(values) - 1e-9
    assert 2 <= len(ticks) <= 7
    assert len({round(b - a, 9) for a, b in itertools.pairwise(ticks)}) == 1


def test_a_report_that_cannot_be_written_is_one_line_below_its_table(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(path: Path, content: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_atomically", denied)
        with pytest.raises(SystemExit) as stopped:
            main([str(sweep)])
    shown = capsys.readouterr()
    assert stopped.value.code == 2
    assert "| a | 32 | 3 | 0.562 ± 0.026 |" in shown.out
    assert shown.err == f"error: {sweep}: the report cannot be written there (Permission denied); give --output DIR\n"
    main([str(sweep), "--output", str(tmp_path / "mine")])
    page = (tmp_path / "mine/report.html").read_text(encoding="utf-8")
    assert not (sweep / "report.html").exists()
    (sweep / "a-32-0" / "report.html").write_text("")
    main([str(sweep), "--output", str(tmp_path / "mine")])
    assert "a-32-0/report.html" not in page
    found = re.search(r'href="([^"]*a-32-0/report\.html)"', (tmp_path / "mine/report.html").read_text(encoding="utf-8"))
    assert found is not None
    assert (tmp_path / "mine" / found[1]).resolve() == (sweep / "a-32-0/report.html").resolve()
