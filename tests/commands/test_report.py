"""anomap-report: three files and a table, safe to open whatever the jobs are called; one line for what is wrong."""

import csv
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from anomap.commands.report import main, report
from anomap.viewing.sweep_chart import _ticks
from tests.runs.test_sweeps import sweep, write_job

__all__ = ["sweep"]  # the fixture

NASTY = "</script><img src=x onerror=alert(1)>|`*"


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_three_files_and_the_table_on_the_terminal(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(sweep), "--by", "model"])
    shown = capsys.readouterr().out
    assert "| a | 32 | 3 | 0.5620 ± 0.0265 | 10.0 ± 10.0 |" in shown
    assert "| b | 128 | 1 | 0.7380 | 0.0 |" in shown
    assert "| a | mean | 3 | 0.6100 ± 0.0265 | 10.0 ± 10.0 |" in shown
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
    assert "0.5620 ± 0.0265" in page
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


def test_a_process_of_its_own_is_quick_because_it_loads_no_torch(sweep: Path) -> None:
    code = "import sys; from anomap.commands.report import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, sweep], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("values", [(0.5, 0.62), (0.9, 0.9), (-3.0, 1e5), (0.0, 0.0), (0.912, 0.9121)])
def test_ticks_are_few_round_and_enclose(values: tuple[float, float]) -> None:
    ticks = _ticks(values)
    assert ticks[0] <= min(values) + 1e-9
    assert ticks[-1] >= max(values) - 1e-9
    assert 2 <= len(ticks) <= 7
    assert len({round(b - a, 9) for a, b in itertools.pairwise(ticks)}) == 1
