"""The report page: what is in the file, and what it does in a real browser."""

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomap.detection.drift import DriftMonitor, Reference
from anomap.detection.metrics import image_metrics
from anomap.intervals import rate_interval
from anomap.runs.scores import ScoreRow
from anomap.viewing.pixels import Picture
from anomap.viewing.report import write_report

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

EVIL = "</script><script>document.title='broken'</script><img src=x onerror=\"document.title='broken'\">.png"


def make_report(path: Path, count: int = 60, size: int = 24, one_class: bool = False, **changes: Any) -> list[ScoreRow]:
    generator = np.random.default_rng(0)
    labels = np.zeros(count, int) if one_class else np.arange(count) % 3 // 2
    scores = generator.normal(10 + 2 * labels)
    defects = np.array(["0.normal", "crack", "spot"])[labels * (1 + np.arange(count) % 2)]
    names = [f"test/{defect}/{i:04d}.png" for i, defect in enumerate(defects)]
    names[0] = f"test/0.normal/{EVIL}"
    rows = [
        ScoreRow.decide(name, int(label), str(defect), score, 11.0)
        for name, label, defect, score in zip(names, labels, defects, scores, strict=True)
    ]
    images = generator.integers(0, 256, (16, 1, size, size), np.uint8)
    maps = generator.random((16, size, size))
    arguments: dict[str, Any] = {
        "title": "adgan & <elpv>",
        "metrics": {
            **image_metrics(scores, labels, 11.0),
            "threshold_strategy": "quantile",
            "model": "adgan",
        },
        "rows": rows,
        "pictures": lambda i: Picture(images[i % 16], maps[i % 16], maps[i % 16] > 0.9 if labels[i] else None),
        "config": {"model": {"name": "<b>adgan</b>"}},
        "versions": {"torch": "2.9.1"},
    }
    write_report(path, **(arguments | changes))
    return rows


def _data(path: Path) -> dict[str, Any]:
    match = re.search(r'<script id="data" type="application/json">(.*?)</script>', path.read_text(), re.DOTALL)
    assert match
    return json.loads(match[1])


class _Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_holds_every_row_exactly(tmp_path: Path) -> None:
    rows = make_report(tmp_path / "report.html")
    data = _data(tmp_path / "report.html")
    assert data["paths"] == [row.path for row in rows]
    assert data["scores"] == [row.score for row in rows]
    assert [data["defects"][k] for k in data["defect"]] == [row.defect for row in rows]
    assert ["abnormal" if label == "1" else "normal" for label in data["labels"]] == [row.label for row in rows]
    assert data["threshold"] == 11.0


def test_is_self_contained_and_forbids_itself_the_network(tmp_path: Path) -> None:
    make_report(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    elements = _Elements(text).found
    assert not any(tag in ("link", "iframe", "object", "embed") for tag, _ in elements)
    for _, attributes in elements:
        assert attributes.get("src") is None
        assert attributes.get("href") in (None, "#")
    policy = next(a["content"] for _, a in elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert set(re.findall(r"https?://[^\s\"']+", text)) == {"http://www.w3.org/2000/svg"}  # a name, not an address


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    make_report(tmp_path / "report.html", versions={EVIL: EVIL}, metrics={"model": EVIL, "checkpoint": EVIL})
    text = (tmp_path / "report.html").read_text()
    assert "adgan &amp; &lt;elpv&gt;" in text
    assert "&lt;b&gt;adgan" in text
    elements = _Elements(text).found
    assert sum(tag == "script" for tag, _ in elements) == 2
    assert not any(tag == "img" for tag, _ in elements)


def test_a_name_that_is_no_text_is_still_written(tmp_path: Path) -> None:
    rows = [ScoreRow.decide("\udcff.png", 0, "\udcfe", 1.0, 0.5)]
    write_report(tmp_path / "report.html", title="\udcff", metrics={}, rows=rows)
    assert _data(tmp_path / "report.html")["paths"] == ["\udcff.png"]


@pytest.mark.thorough
def test_large_test_sets_stay_small_files(tmp_path: Path) -> None:
    seen: list[int] = []
    noise = np.random.default_rng(0).integers(0, 256, (3, 300, 400), np.uint8)  # noise is the worst to compress

    def picture(index: int) -> Picture:
        seen.append(index)
        return Picture(noise, noise[0] / 255)

    make_report(tmp_path / "report.html", count=5000, pictures=picture)
    assert len(seen) == 120
    assert (tmp_path / "report.html").stat().st_size < 10e6


def test_the_decision_of_the_page_is_told_honestly(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    make_report(path, metrics={"threshold_strategy": "oracle_f1", "image_auroc": 0.4})
    text = path.read_text()
    assert "chosen with the test labels" in text
    assert "worse than chance" in text
    make_report(path, metrics={"threshold_strategy": "quantile", "threshold_note": "5 images are too few"})
    assert "5 images are too few." in path.read_text()
    make_report(path, metrics={"pixel_note": "the pixel metrics leave out one"})
    assert "Masks: the pixel metrics leave out one." in path.read_text()


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_refuses_scores_that_are_not_finite(tmp_path: Path, score: float) -> None:
    rows = [ScoreRow.decide("a.png", 0, "good", score, 0.5)]
    with pytest.raises(ValueError, match="finite"):
        write_report(tmp_path / "report.html", title="", metrics={}, rows=rows)


def test_shows_what_there_is_of_each_image(tmp_path: Path) -> None:
    image = np.zeros((1, 8, 8), np.uint8)
    pictures = [
        Picture(image, np.zeros((8, 8)), np.ones((8, 8)), np.ones((8, 8)), image),
        Picture(image, np.zeros((8, 8))),
        None,
    ]
    rows = [ScoreRow.decide(f"{i}.png", 0, "good", 0.1, 0.5) for i in range(3)]
    write_report(tmp_path / "report.html", title="", metrics={}, rows=rows, pictures=pictures.__getitem__)
    full, plain = _data(tmp_path / "report.html")["gallery"]
    views = ["image", "attention map", "anomaly map", "overlay", "truth", "restored"]
    assert [key for key in full if key not in ("row", "small")] == views
    assert [key for key in plain if key not in ("row", "small")] == ["image", "anomaly map", "overlay"]
    choices = [
        a["value"] for tag, a in _Elements((tmp_path / "report.html").read_text()).found if a.get("name") == "view"
    ]
    assert choices == views


def _cards(path: Path) -> dict[str, tuple[str, str]]:
    card = r'data-metric="(\w+)"><h3>[^<]*</h3><p class="value">([^<]*)</p><p class="muted">([^<]*)<'
    return {key: (value, meaning) for key, value, meaning in re.findall(card, path.read_text())}


def test_a_large_photograph_is_shown_at_its_own_resolution_too(tmp_path: Path) -> None:
    image, path = np.full((1, 12, 16), 200, np.uint8), tmp_path / "report.html"
    piece = Picture(image[:, :8, :8], np.zeros((8, 8)), place=np.array([0, 0.25, 0.5, 0.75], np.float32))
    make_report(path, count=3, pictures=lambda i: Picture(image, np.zeros((12, 16)), zoom=piece if i == 1 else None))
    entries = _data(path)["gallery"]
    assert ["zoom" in entry for entry in entries] == [False, True, False]
    zoom = entries[1]["zoom"]
    assert zoom["place"] == [0, 0.25, 0.5, 0.75]
    assert Image.open(io.BytesIO(base64.b64decode(zoom["image"].partition(",")[2]))).size == (8, 8)
    assert zoom.keys() == {"image", "anomaly map", "overlay", "place"}


def test_rates_stand_with_their_intervals_and_what_was_promised(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    low, high = rate_interval(3, 60)
    metrics = {"test_fpr": 0.05, "test_fpr_low": low, "test_fpr_high": high, "promised_fpr": 1 / 14}
    make_report(path, metrics={**metrics, "test_tpr": 1.0, "test_tpr_low": 0.963, "test_tpr_high": 1.0})
    cards = _cards(path)
    assert cards["test_fpr"] == ("50", "in 1,000 good parts; 95 % interval 10 to 139")
    assert cards["promised_fpr"][0] == "71"
    assert cards["test_tpr"] == ("100.0 %", "of abnormal test images; 95 % interval 96.3 to 100.0")


def test_controls_and_parts_stand_beside_the_detector(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    make_report(
        path, metrics={"image_auroc": 0.9, "image_auroc_low": 0.8, "image_auroc_high": 0.95, "pixel_auroc": 0.7}
    )
    assert 'id="areas"' not in path.read_text()
    controls = {"control_mean_auroc": 0.6, "control_pca_auroc": 0.71, "control_darkness_auroc": None}
    make_report(path, metrics={"pixel_auroc": 0.7, **controls, "part_map_auroc": 0.8, "image_auroc": 0.9})
    table = path.read_text().split('id="areas"')[1].split("</table>")[0]
    assert re.findall(r'row">([^<]*)<', table) == ["this detector", "its map alone", "control: pca", "control: mean"]
    assert re.findall(r'number">([^<]*)<', table) == ["0.900", "0.800", "0.710", "0.600"]


def test_a_run_without_a_test_set_has_a_report_too(tmp_path: Path) -> None:
    metrics = {"n_test_normal": 0, "n_test_abnormal": 0, "calibration_fpr": 0.05, "model": "adgan"}
    write_report(tmp_path / "report.html", title="adgan", metrics=metrics, rows=[], pictures={}.get)
    text = (tmp_path / "report.html").read_text()
    assert "There is no test set" in text
    assert "5.0 %" in text
    assert "<script" not in text
    assert 'id="kinds"' not in text


# ---- in the browser ----


def open_page(page: Path, fragment: str = "", action: str = "") -> str:
    """The page's document after its scripts and `action` (JavaScript) ran; fails on any console message."""
    assert CHROMIUM is not None
    if action:
        text = page.read_text().replace("</body>", f"<script>{action}</script></body>")
        page.write_text(text)
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
        "--disable-sync --no-first-run --enable-logging=stderr --v=0 --virtual-time-budget=2000 "
        f"--window-size=1280,1000 --user-data-dir={page.parent / 'profile'} --dump-dom"
    )
    command = [CHROMIUM, *flags.split(), page.as_uri() + fragment]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    messages = [line for line in run.stderr.splitlines() if "CONSOLE" in line]
    assert messages == []
    return run.stdout


def _shown(dom: str, kind: str) -> dict[str, str]:
    return dict(re.findall(rf'data-{kind}="(\w+)">([^<]*)<', dom))


def _confusion(rows: list[ScoreRow], threshold: float) -> dict[str, str]:
    cells = [("ft"[(r.score > threshold) == (r.label == "abnormal")] + "np"[r.score > threshold]) for r in rows]
    return {name: str(cells.count(name)) for name in ("tn", "fp", "fn", "tp")}


@needs_chromium
def test_opens_at_the_stored_threshold(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    rows = make_report(page)
    dom = open_page(page)
    assert _shown(dom, "count") == _confusion(rows, 11.0)
    assert "<title>adgan &amp; &lt;elpv&gt;</title>" in dom  # no name of a file ran as a script
    assert dom.count('class="tile ') == 60
    assert dom.count("<tr><td>") == 61  # 60 lines of the table and the empty corner of the confusion matrix
    # The worst mistake comes first.
    worst = max(rows, key=lambda row: (11.0 - row.score) * (1 if row.label == "abnormal" else -1))
    first = re.search(r'class="name">([^<]*)<', dom)
    assert first
    assert first[1] == worst.path.rsplit("/", 1)[-1]


@needs_chromium
def test_the_address_sets_the_threshold_and_everything_follows(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    rows = make_report(page)
    dom = open_page(page, "#threshold=12.25")
    counts = {name: int(count) for name, count in _confusion(rows, 12.25).items()}
    assert {name: int(count) for name, count in _shown(dom, "count").items()} == counts
    rates = _shown(dom, "rate")
    assert rates["tpr"] == f"{100 * counts['tp'] / (counts['tp'] + counts['fn']):.1f} %"
    assert rates["fpr"] == f"{100 * counts['fp'] / (counts['fp'] + counts['tn']):.1f} %"
    assert rates["f1"] == f"{2 * counts['tp'] / (2 * counts['tp'] + counts['fp'] + counts['fn']):.3f}"
    mistakes = counts["fn"] + counts["fp"]
    assert len(re.findall(r'class="tile \w+ mistake"', dom)) == mistakes
    table = dom.split('<table id="table">')[1]
    assert len(re.findall(r'class="badge \w+ mistake"', table)) == mistakes


@needs_chromium
def test_moving_the_slider_dragging_filtering_and_enlarging(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    rows = make_report(page)
    action = """
      const note = (key, value) => { document.body.dataset[key] = value; };
      const data = JSON.parse(document.getElementById("data").textContent);
      const $ = (id) => document.getElementById(id);
      const drag = (id, x, y) => {
        const box = $(id).getBoundingClientRect(); $(id).setPointerCapture = () => {}; $(id).dispatchEvent(new
        PointerEvent("pointerdown", {clientX: box.left + x * box.width, clientY: box.top + y * box.height}));
      };
      const part = (score) => (score - data.axis.low) / (data.axis.high - data.axis.low);
      $("slider").value = 1000 * part(9.5);
      $("slider").dispatchEvent(new Event("input"));
      note("slider", $("exact").value + "/" + document.querySelector('[data-count="fp"]').textContent);
      drag("distribution", 1, 0.5);
      note("right", document.querySelector('[data-count="tp"]').textContent);
      drag("roc", 0.99, 0);
      note("lax", document.querySelector('[data-rate="tpr"]').textContent);
      $("reset").click();
      note("reset", $("exact").value);
      $("show").value = "missed";
      $("show").dispatchEvent(new Event("change", {bubbles: true}));
      note("missed", document.querySelectorAll(".tile").length);
      $("show").value = "abnormal";
      $("show").dispatchEvent(new Event("change", {bubbles: true}));
      $("tiles").firstChild.click();
      note("large", $("large").open + "/" + document.querySelectorAll("#large-views img").length);
      note("first", $("large-name").textContent);
      $("large").dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
      note("second", $("large-name").textContent);
      $("close").click();
      note("closed", !$("large").open);
      const column = (name) => document.querySelector(`#table th button[data-column="${name}"]`);
      const listed = (k) => Array.from(document.querySelectorAll("#table tbody tr"), (row) => row.cells[k]);
      column("score").click();
      note("ascending", listed(3).map((cell) => cell.title).join());
      column("path").click();
      note("descending", column("path").parentElement.getAttribute("aria-sort"));
      note("paths", listed(0).map((cell) => cell.textContent.length).join());
      $("search").value = "CRACK";
      $("search").dispatchEvent(new Event("input"));
      note("cracks", document.querySelectorAll("#table tbody tr").length);
    """
    dom = open_page(page, action=action)
    seen = dict(re.findall(r'data-(\w+)="([^"]*)"', dom.split("<body", 1)[1].split(">", 1)[0]))
    slider, alarms = seen["slider"].split("/")
    assert float(slider) == pytest.approx(9.5, abs=0.01)
    assert alarms == _confusion(rows, float(slider))["fp"]
    assert seen["right"] == "0"
    assert seen["lax"] == "100.0 %"
    assert float(seen["reset"]) == 11.0
    assert seen["missed"] == _confusion(rows, 11.0)["fn"]
    assert seen["large"] == "true/4"
    assert seen["first"] != seen["second"]
    assert {seen["first"], seen["second"]} <= {row.path for row in rows if row.label == "abnormal"}
    assert seen["closed"] == "true"
    assert [float(score) for score in seen["ascending"].split(",")] == sorted(row.score for row in rows)
    assert seen["descending"] == "ascending"
    assert seen["paths"].split(",") == [str(len(path)) for path in sorted(row.path for row in rows)]
    assert int(seen["cracks"]) == sum("crack" in row.path for row in rows)


@needs_chromium
def test_each_kind_of_defect_has_its_rate_and_its_exact_interval(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    rows = make_report(page)
    dom = open_page(page, "#threshold=11.5")
    table = dom.split('id="kinds">')[1].split("</table>")[0]
    found = re.findall(r'row">([^<]*)<small>(\d+) \w+<.*?<span>([^<]*)</span><small>([^<]*)<', table)
    assert [name for name, *_ in found] == ["all defects", "crack", "spot", "0.normal"]
    for name, size, rate, bounds in found:
        own = [row for row in rows if row.defect == name or (name == "all defects" and row.label == "abnormal")]
        count = sum(row.score > 11.5 for row in own)
        low, high = rate_interval(count, len(own))
        assert int(size) == len(own)
        assert rate.endswith(f" {100 * count / len(own):.1f} %")
        numbers = [float(number) for number in re.findall(r"[\d.]+", bounds.replace("1,000", ""))]
        expected = (1000 * count / len(own), 1000 * low, 1000 * high) if name == "0.normal" else (100 * low, 100 * high)
        assert numbers == pytest.approx(expected, abs=0.51 if name == "0.normal" else 0.06)


@needs_chromium
def test_the_slider_is_useful_at_the_decision_beside_far_scores(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    generator = np.random.default_rng(0)
    scores = [*generator.normal(size=100), *generator.lognormal(10, 1, 50)]
    rows = [ScoreRow.decide(f"{i}.png", int(i >= 100), "x", score, 6.0) for i, score in enumerate(scores)]
    write_report(page, title="", metrics={}, rows=rows)
    action = """
      const slider = document.getElementById("slider");
      document.body.dataset.at = slider.value;
      slider.stepUp();
      slider.dispatchEvent(new Event("input"));
      document.body.dataset.next = document.getElementById("exact").value;
    """
    dom = open_page(page, action=action)
    assert 200 < float(re.findall(r'data-at="([^"]*)"', dom)[0]) < 500
    assert 6.0 < float(re.findall(r'data-next="([^"]*)"', dom)[0]) < 6.2
    assert "drawn closer together" in dom


@needs_chromium
def test_nothing_runs_over_the_edge_of_a_phone(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    metrics = {"control_nearest_neighbour_auroc": 0.7, "image_auroc": 0.9, "test_fpr": 0.1, "promised_fpr": 0.05}
    make_report(page, metrics=metrics)
    tall = "Math.max(...Array.from(document.querySelectorAll('.tracks tr'), (row) => row.offsetHeight))"
    seen = f"[innerWidth, document.documentElement.scrollWidth, {tall}].join('/')"
    note = f"<script>parent.postMessage({seen}, '*')</script></body>"
    page.write_text(page.read_text().replace("</body>", note))
    frame = tmp_path / "phone.html"  # a window cannot be made that narrow
    take = "addEventListener('message', (event) => { document.body.dataset.width = event.data; })"
    frame.write_text(
        f'<script>{take}</script><body><iframe src="report.html" width="390" height="800" style="border:0">'
    )
    found = re.findall(r'data-width="(\d+)/(\d+)/(\d+)"', open_page(frame))
    assert found
    inner, needed, tallest = map(int, found[0])
    assert needed <= inner == 390
    assert tallest < 100  # no column so narrow that a name runs down it letter by letter


@needs_chromium
def test_works_with_one_class_and_no_images(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    rows = make_report(page, one_class=True, pictures=None, versions=None, config=None)
    dom = open_page(page)
    assert _shown(dom, "count") == _confusion(rows, 11.0)
    assert _shown(dom, "rate")["tpr"] == _shown(dom, "rate")["f1"] == "–"
    assert 'id="roc"' not in dom
    assert 'id="gallery"' not in dom


@needs_chromium
def test_identical_scores_do_not_break_the_charts(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    rows = [ScoreRow.decide(f"{i}.png", i % 2, "x", 1000.0, 1000.0) for i in range(4)]
    write_report(page, title="same", metrics={}, rows=rows)
    dom = open_page(page)
    assert _shown(dom, "count") == {"tn": "2", "fp": "0", "fn": "2", "tp": "0"}
    assert "NaN" not in dom.split("<main")[1].split("<script")[0]


def test_test_normals_stand_beside_calibration(tmp_path: Path) -> None:
    reference = Reference(np.arange(40.0), np.full((40, 5), [0.5, 0.1, 2, 640, np.nan]), 38)
    monitor = DriftMonitor(reference)
    monitor.observe(np.full(20, 90.0), np.full((20, 5), [0.7, 0.1, 2, 640, np.nan]))
    make_report(tmp_path / "changed.html", drift=monitor.drift().to_dict())
    text = re.sub(r"<[^>]*>|\s+", " ", (tmp_path / "changed.html").read_text())
    assert "20 alarms on 20 normal test images : 100 % where 4.88 % was promised" in text.replace("images:", "images :")
    for row in ("brightness 0.5 0.7 +40 %", "height – – – – – unknown", "width 640 640 +0 %"):
        assert row in re.sub(" +", " ", text)
    assert "camera or light changed? (brightness +40 %)" in text
    make_report(tmp_path / "without.html")
    assert "drift-table" not in (tmp_path / "without.html").read_text()
