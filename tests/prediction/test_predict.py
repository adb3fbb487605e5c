"""anomap-predict: what it writes, that it goes on after any end, and that it says what Python and the training say."""

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from anomap import Detector
from anomap.cli import signals
from anomap.commands import predict as predict_module
from anomap.commands.predict import command, predict
from anomap.config import config_dir, plain
from anomap.data.decode import ITEMS_AT_A_TIME
from anomap.data.files import worker_count
from anomap.detection.detector import Preprocessing
from anomap.errors import UserError
from anomap.prediction import scoring as prediction_scoring
from anomap.prediction.folder import PredictionSummary
from anomap.prediction.table import PredictionRow, read_rows
from anomap.runs.lock import alone
from anomap.viewing import palette
from tests import tiny
from tests.data.helpers import save
from tests.finished import Run, Runs
from tests.tables import read_scores, unescape

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="session")
def run(runs: Runs) -> Run:
    return runs("model=ganomaly")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of ten images, three of which have a hole."""
    folder = tmp_path / "input"
    pixels = (tiny.textures(10, seed=7)[:, 0].numpy() * 255).astype(np.uint8)
    pixels[7:, 8:20, 8:20] = 0
    for number, image in enumerate(pixels):
        save(folder / f"{number}.png", image)
    return folder


def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return plain(compose("predict", list(overrides)))


def config(run: Run, source: Path | str, **changes: Any) -> dict[str, Any]:
    return {**composed(), "checkpoint": str(run.folder.last_checkpoint), "input": str(source), **changes}


def read_predictions(path: Path) -> list[PredictionRow]:
    """What `scores.csv` holds."""
    with path.open(newline="", encoding="utf-8") as file:
        _, *lines = csv.reader(file)
    return [PredictionRow(unescape(name), float(score), float(limit), said) for name, score, limit, said in lines]


def scores(folder: Path) -> dict[str, float]:
    rows = read_predictions(folder / "scores.csv")
    assert len({row.path for row in rows}) == len(rows)  # nothing is scored twice
    return {row.path: row.score for row in rows}


# --- what it says ---


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_the_command_python_and_the_training_agree(run: Run, data: Path, tmp_path: Path, batch_size: int) -> None:
    trained = {row.path: row for row in read_scores(run.folder.scores)}
    predict(config(run, data / "test", recursive=True, batch_size=batch_size), tmp_path)
    rows = {f"test/{row.path}": row for row in read_predictions(tmp_path / "scores.csv")}
    detector = Detector.load(run.folder.last_checkpoint)
    asked = dict(zip(trained, detector.predict([data / name for name in trained]), strict=True))
    assert rows.keys() == trained.keys()
    for name, row in trained.items():
        assert rows[name].score == pytest.approx(row.score, rel=1e-4, abs=1e-6)
        assert asked[name].score == pytest.approx(row.score, rel=1e-4, abs=1e-6)
        assert rows[name].threshold == asked[name].threshold == row.threshold
        assert rows[name].prediction == row.prediction == ("abnormal" if asked[name].is_anomaly else "normal")


def test_the_files_of_a_prediction(run: Run, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    (images / "broken.png").write_bytes(b"junk")
    (images / "=odd.png").write_bytes((images / "0.png").read_bytes()[:-30])
    command(config(run, images, overlays="all", batch_size=4), out)
    assert {path.name for path in out.iterdir()} == {
        *(
            "scores",
            "scores.csv",
            "scores.parquet",
            "unreadable.csv",
            "predict.json",
            "drift.json",
            "overlays",
            "contact_sheet.png",
        ),
        ".lock",
    }
    rows = read_predictions(out / "scores.csv")
    assert [row.path for row in rows] == [f"{number}.png" for number in range(10)]
    table = pq.read_table(out / "scores.parquet").to_pylist()
    assert table == [
        {"path": row.path, "score": row.score, "threshold": row.threshold, "prediction": row.prediction} for row in rows
    ]
    with (out / "unreadable.csv").open(newline="") as file:
        (header, *lines) = csv.reader(file)
    assert header == ["path", "reason"]
    assert {name: bool(reason) and "data." not in reason for name, reason in lines} == {
        "'=odd.png": True,
        "broken.png": True,
    }
    assert str(images) not in dict(lines)["broken.png"]
    drawn = sorted(path.name for path in (out / "overlays").iterdir())
    assert drawn == [f"{number}.png" for number in range(10)]
    assert np.asarray(Image.open(out / "overlays" / "9.png")).shape == (tiny.SIZE, tiny.SIZE, 3)
    printed = capsys.readouterr()
    assert printed.err == ""  # no progress bar where there is no terminal
    for text in ("scored       10 images, ", "images/s", f"unreadable   2, listed in {out / 'unreadable.csv'}"):
        assert text in printed.out
    assert f"abnormal     {sum(row.prediction == 'abnormal' for row in rows)}\n" in printed.out


@pytest.mark.parametrize("overlays", ["anomalies", "none", "all"])
def test_overlays_of_what_is_asked_for(run: Run, images: Path, tmp_path: Path, overlays: str) -> None:
    threshold = float(np.median(Detector.load(run.folder.last_checkpoint).score(sorted(images.iterdir()))))
    outcome = predict(config(run, images, overlays=overlays, threshold={"value": threshold}), tmp_path / "out")
    rows = read_predictions(tmp_path / "out" / "scores.csv")
    assert {row.threshold for row in rows} == {threshold}
    abnormal = {row.path for row in rows if row.score > threshold}
    assert outcome.abnormal == len(abnormal) == 5
    wanted = {"anomalies": abnormal, "none": set(), "all": {row.path for row in rows}}[overlays]
    assert {path.name for path in (tmp_path / "out").glob("overlays/*")} == wanted
    assert (tmp_path / "out" / "contact_sheet.png").exists() == (overlays != "none")


def test_an_overlay_has_the_size_of_its_photograph_and_changes_nothing_but_the_line(run: Run, tmp_path: Path) -> None:
    photograph = np.random.default_rng(0).integers(0, 256, (90, 160), np.uint8)
    save(tmp_path / "input" / "wide.png", photograph)
    predict(config(run, tmp_path / "input", overlays="all", threshold={"value": 0.0}), tmp_path / "out")
    drawn = np.asarray(Image.open(tmp_path / "out" / "overlays" / "wide.png"))
    assert drawn.shape == (90, 160, 3)
    line = (drawn == palette.rgb(palette.CONTOUR)).all(-1)
    assert line.mean() < 0.5
    assert (drawn[~line] == photograph[~line][:, None]).all()


def test_a_photograph_that_goes_away_before_its_overlay_keeps_its_score(
    run: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gone, real = images / "0.png", Detector.observe_batch

    def observe(detector: Detector, *given: Any) -> Any:
        gone.unlink(missing_ok=True)
        return real(detector, *given)

    monkeypatch.setattr(Detector, "observe_batch", observe)
    outcome = predict(config(run, images, overlays="all"), tmp_path / "out")
    assert outcome.scored == len(read_predictions(tmp_path / "out/scores.csv"))
    assert "0.png" in scores(tmp_path / "out")
    assert not (tmp_path / "out/overlays/0.png").exists()
    assert "no overlay: " in caplog.text


def test_overlays_stay_apart_and_inside(run: Run, images: Path, tmp_path: Path) -> None:
    for name in ("a.png", "a.bmp", "a.png.png", "sub/a.png", "sub/b...png", "sub/new\nline.png", "sub/[x] $y$.png"):
        save(images / name, seed=1)
    os.symlink(images / "0.png", images / "link.png")
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    outcome = predict(config(run, images, overlays="all", recursive=True), tmp_path / "out")
    assert outcome.scored == len(list((tmp_path / "out" / "overlays").rglob("*.png"))) == 18
    added = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert all(path.is_relative_to(tmp_path / "out") for path in added)


def test_view_shows_the_sheet_or_says_where_it_is(
    run: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from anomap.viewing import system_viewer

    shown: list[Path] = []
    for screen, text in ((True, "contact sheet shown"), (False, "no screen; see ")):
        monkeypatch.setattr(system_viewer, "open_picture", lambda path, screen=screen: shown.append(path) or screen)
        command(config(run, images, view=True, overlays="none"), tmp_path / str(screen))
        assert text in capsys.readouterr().out
    assert shown == [tmp_path / "True" / "contact_sheet.png", tmp_path / "False" / "contact_sheet.png"]
    assert all(path.stat().st_size > 1000 for path in shown)


# --- going on ---


def test_going_on_scores_what_is_new_and_what_was_unreadable(run: Run, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = config(run, images, output=str(out))
    (images / "late.png").write_bytes(b"junk")
    assert predict(given, tmp_path / "unused").unreadable == 1
    save(images / "late.png", seed=1)
    save(images / "new.png", seed=2)
    outcome = predict(given, tmp_path / "unused")
    assert (outcome.folder, outcome.scored, outcome.earlier, outcome.unreadable) == (out, 2, 10, 0)
    assert not (out / "unreadable.csv").exists()
    assert not (tmp_path / "unused").exists()
    assert len(scores(out)) == pq.read_metadata(out / "scores.parquet").num_rows == 12
    assert predict({**given, "input": f"{images}/*.png"}, tmp_path).scored == 0  # the same images, asked for otherwise


def test_a_file_that_has_changed_is_scored_again(
    run: Run, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its old score and its old overlay are gone; what was removed keeps both, and all of it is said."""
    out = tmp_path / "out"
    for name in ("-1.png", "-2.png"):  # a spreadsheet would run them
        (images / name).write_bytes((images / "0.png").read_bytes())
    given = config(run, images, overlays="anomalies", threshold={"value": -1e9})  # all are abnormal
    predict(given, out)
    before = scores(out)
    assert set(pq.read_table(out / "scores.parquet").column("path").to_pylist()) == {
        path.name for path in images.iterdir()
    }
    was = (images / "1.png").stat()
    (images / "1.png").write_bytes((images / "9.png").read_bytes())
    os.utime(images / "1.png", ns=(was.st_atime_ns, was.st_mtime_ns))  # as from a copy that keeps times
    (images / "-1.png").write_bytes(b"junk")
    (images / "2.png").unlink()
    capsys.readouterr()
    command({**given, "overlays": "none"}, out)
    expected = {**{name: before[name] for name in before if name != "-1.png"}, "1.png": before["9.png"]}
    assert scores(out) == pytest.approx(expected, rel=1e-4)
    assert before["1.png"] != pytest.approx(before["9.png"], rel=1e-3)
    drawn = {path.name for path in (out / "overlays").iterdir()}
    assert drawn == before.keys() - {"1.png", "-1.png"}
    told = capsys.readouterr().out
    assert "scored       1 images" in told
    assert "earlier      10 images were scored before and are kept; 1 of these files are gone since" in told
    assert "changed      2 images have changed: their old scores are dropped" in told
    assert "unreadable   1, listed in" in told
    assert predict(given, out).scored == 0


def test_what_cannot_be_read_is_listed_with_reasons_that_predict_can_mean(
    run: Run, images: Path, tmp_path: Path
) -> None:
    pages = [Image.new("L", (40, 40), value) for value in (10, 200)]
    pages[0].save(images / "pages.tif", save_all=True, append_images=pages[1:])
    Image.fromarray(np.ones((40, 40), np.float32)).save(images / "float.tif")
    assert predict(config(run, images, overlays="none"), tmp_path / "out").scored == 10
    with (tmp_path / "out" / "unreadable.csv").open(newline="") as file:
        assert dict(csv.reader(file)) == {
            "path": "reason",
            "float.tif": "holds float32 values, which have no natural range",
            "pages.tif": "holds 2 pages or frames: save one image per file",
        }


def test_tables_that_are_gone_or_edited_are_made_again_without_scoring(run: Run, images: Path, tmp_path: Path) -> None:
    given, out = config(run, images, overlays="none"), tmp_path / "out"
    predict(given, out)
    whole = {name: (out / name).read_bytes() for name in ("scores.csv", "scores.parquet")}
    (out / "scores.csv").write_bytes(whole["scores.csv"][:40])
    (out / "scores.parquet").unlink()
    assert predict(given, out).scored == 0
    assert {name: (out / name).read_bytes() for name in whole} == whole


def test_one_prediction_at_a_time_in_a_folder(run: Run, images: Path, tmp_path: Path) -> None:
    with alone(tmp_path, "busy"), pytest.raises(UserError, match="another anomap-predict is writing there"):
        predict(config(run, images, overlays="none"), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"input", ".lock"}
    assert predict(config(run, images, overlays="none"), tmp_path).scored == 10


def test_the_folder_is_held_until_the_last_file(run: Run, images: Path, tmp_path: Path) -> None:
    """Also while the tables and the contact sheet are made."""

    def inside(*_: Any) -> None:
        with pytest.raises(UserError, match="another anomap-predict"):
            predict(config(run, images, overlays="none"), tmp_path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict_module, "draw_sheet", inside)
        predict(config(run, images, view=True), tmp_path)


def test_scores_are_written_every_few_seconds(
    run: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = config(run, images, overlays="none", batch_size=2)
    for seconds, rows, parts in ((1000.0, 2000, 1), (0.0, 2000, 5), (1000.0, 4, 3)):
        monkeypatch.setattr(prediction_scoring, "PART_SECONDS", seconds)
        monkeypatch.setattr(prediction_scoring, "PART_ROWS", rows)
        predict(given, tmp_path / str(parts))
        assert len(list((tmp_path / str(parts) / "scores").iterdir())) == parts
        assert len(scores(tmp_path / str(parts))) == 10


def test_an_error_keeps_what_was_scored(
    run: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, calls = prediction_scoring.draw, iter(range(100))

    def failing(*arguments: Any) -> None:
        if next(calls) == 2:
            raise RuntimeError("out of memory")
        draw(*arguments)

    given = config(run, images, overlays="none", batch_size=2)
    monkeypatch.setattr(prediction_scoring, "draw", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        predict(given, tmp_path / "out")
    assert sum(1 for _ in read_rows(tmp_path / "out")) == 4
    monkeypatch.setattr(prediction_scoring, "draw", draw)
    assert (predict(given, tmp_path / "out").scored, len(scores(tmp_path / "out"))) == (6, 10)


def test_a_name_that_is_no_text_is_scored_once_and_on_the_sheet(run: Run, images: Path, tmp_path: Path) -> None:
    os.replace(images / "9.png", os.path.join(os.fsencode(images), b"\xff9.png"))
    given = config(run, images, overlays="all")
    assert predict(given, tmp_path / "out").sheet is not None
    assert "\\udcff9.png" in scores(tmp_path / "out")
    assert predict(given, tmp_path / "out").scored == 0
    sheet = (tmp_path / "out" / "contact_sheet.png").read_bytes()
    os.remove(os.path.join(os.fsencode(images), b"\xff9.png"))
    predict(given, tmp_path / "out")
    assert (tmp_path / "out" / "contact_sheet.png").read_bytes() != sheet  # it was there


@pytest.mark.parametrize("which", ["checkpoint", "threshold", "input"])
def test_results_of_something_else_are_refused_and_kept(
    which: str, run: Run, runs: Runs, images: Path, data: Path, tmp_path: Path
) -> None:
    given = config(run, images, output=str(tmp_path / "out"), overlays="none")
    predict(given, tmp_path)
    before = (tmp_path / "out" / "scores.csv").read_bytes()
    other = {
        "checkpoint": str(runs("model=attention_network").folder.last_checkpoint),
        "threshold": {"value": 0.25},
        "input": str(data / "test" / "hole"),
    }
    with pytest.raises(UserError, match=f"scores of another {which} .*another output=DIR"):
        predict({**given, which: other[which]}, tmp_path)
    assert (tmp_path / "out" / "scores.csv").read_bytes() == before


def test_a_copy_of_the_checkpoint_goes_on(run: Run, images: Path, tmp_path: Path) -> None:
    predict(config(run, images, overlays="none"), tmp_path / "out")
    copy = tmp_path / "copy.ckpt"
    copy.write_bytes(run.folder.last_checkpoint.read_bytes())
    assert predict(config(run, images, overlays="none", checkpoint=str(copy)), tmp_path / "out").earlier == 10


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"model": "x"}'])
def test_a_folder_of_another_program_is_left_alone(run: Run, images: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predict.json").write_text(content)
    with pytest.raises(UserError, match="another program's"):
        predict(config(run, images), tmp_path / "out")
    with pytest.raises(UserError, match="anomap-predict did not write"):
        predict(config(run, images), run.folder.path)  # the scores.csv of a training


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_prediction_has_valid_files_and_goes_on(
    number: int,
    run: Run,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given, out = config(run, images, batch_size=2, overlays="all"), tmp_path / "out"
    draw, calls = prediction_scoring.draw, iter(range(100))

    def stopped(*arguments: Any) -> None:
        if next(calls) == 2:
            os.kill(os.getpid(), number)
        draw(*arguments)

    monkeypatch.setattr(prediction_scoring, "draw", stopped)
    before = signal.signal(signal.SIGTERM, signals.obey)  # as every command begins
    try:
        with pytest.raises(SystemExit) as end:
            command(given, out)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert end.value.code == 128 + number
    assert f"give output={out} to go on" in capsys.readouterr().out
    assert len(scores(out)) == pq.read_metadata(out / "scores.parquet").num_rows == 4
    monkeypatch.setattr(prediction_scoring, "draw", draw)
    assert predict(given, out).scored == 6
    assert len(list((out / "overlays").iterdir())) == len(scores(out)) == 10


def test_a_killed_prediction_goes_on(run: Run, tmp_path: Path) -> None:
    for number in range(400):
        save(tmp_path / "input" / f"{number:03d}.png", seed=number)
    out = tmp_path / "out"
    arguments = [
        f"checkpoint={run.folder.last_checkpoint}",
        f"input={tmp_path / 'input'}",
        f"output={out}",
        f"hydra.run.dir={tmp_path}",
    ]
    code = "from anomap.cli.entry import predict; from anomap.prediction import scoring; scoring.PART_SECONDS = 0.1; predict()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "batch_size=1", "overlays=all"], stdout=subprocess.DEVNULL
    )
    while len(list(out.glob("scores/part-*.parquet"))) < 3:
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (out / "scores.csv").exists()  # made at the end
    done = sum(1 for _ in read_rows(out))
    assert 0 < done < 400
    outcome = predict(config(run, tmp_path / "input", overlays="all"), out)
    assert (outcome.earlier, outcome.scored) == (done, 400 - done)
    assert len(scores(out)) == len(list((out / "overlays").glob("*.png"))) == 400
    predict(config(run, tmp_path / "input", overlays="none"), tmp_path / "again")
    assert scores(out) == pytest.approx(scores(tmp_path / "again"), rel=1e-4, abs=1e-6)


# --- what the user gets wrong ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint": None}, "checkpoint is not set"),
        ({"checkpoint": "missing.ckpt"}, r"checkpoint=missing\.ckpt: no such file"),
        ({"engine": "spark"}, "engine=spark: give one of local, ray"),
        ({"input": None}, "input is not set"),
        ({"input": "nowhere"}, "input=nowhere: no such file"),
        ({"input": "*.gif"}, r"input=\*\.gif: no image fits"),
        ({"overlays": "some"}, "overlays=some: give one of anomalies, all, none"),
        ({"threshold": {"strategy": "quantile"}}, r"threshold=quantile: give threshold\.value=NUMBER"),
        ({"threshold": {"value": "x"}}, r"threshold\.value=x: not a number"),
        ({"threshold": {"value": True}}, r"threshold\.value=True: not a number"),
        ({"threshold": {"value": float("nan")}}, r"threshold\.value=nan: not a number"),
        ({"batch_size": 0}, "batch_size=0: give a whole number"),
        ({"batch_size": 1.5}, "batch_size=1.5: give a whole number"),
        ({"recursive": "maybe"}, "recursive=maybe: give true or false"),
        ({"view": 3}, "view=3: give true or false"),
        ({"device": "nonsense"}, "device=nonsense"),
        ({"output": "/dev/null/out"}, "/dev/null/out: cannot be written to"),
    ],
)
def test_bad_input_is_one_line(run: Run, images: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        predict({**config(run, images), **changes}, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("overrides", [["threshold.value=0.5"], ["threshold=manual", "threshold.value=0.5"]])
def test_a_threshold_is_given_as_to_anomap_evaluate(
    run: Run, images: Path, tmp_path: Path, overrides: list[str]
) -> None:
    given = composed(*overrides)["threshold"]
    predict(config(run, images, overlays="none", threshold=given), tmp_path)
    assert {row.threshold for row in read_predictions(tmp_path / "scores.csv")} == {0.5}


def test_no_image_at_all(run: Run, tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    with pytest.raises(UserError, match="no image in this folder"):
        predict(config(run, tmp_path / "input"), tmp_path / "out")
    for number in range(3):
        (tmp_path / "input" / f"{number}.png").write_bytes(b"junk")
    with pytest.raises(UserError, match=r"none of 3 files can be read; the first [a-z].*; .*unreadable\.csv"):
        predict(config(run, tmp_path / "input"), tmp_path / "out")
    assert len((tmp_path / "out" / "unreadable.csv").read_text().splitlines()) == 4


# --- the process ---


def _execute(*arguments: str, code: str = "from anomap.cli.entry import predict; predict()") -> Any:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)


def test_as_a_program_without_lightning(run: Run, images: Path, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pytorch_lightning'] = sys.modules['lightning'] = None\n"
        "from anomap.cli.entry import predict; predict()"
    )
    given = [f"checkpoint={run.folder.last_checkpoint}", f"hydra.run.dir={tmp_path / 'run'}"]
    done = _execute(*given, f"input={images}", "overlays=all", code=code)
    assert done.returncode == 0, done.stderr
    assert len(scores(tmp_path / "run")) == 10
    assert json.loads((tmp_path / "run" / "predict.json").read_text())["input"] == str(images)
    wrong = _execute(*given, f"input={tmp_path / 'nowhere'}", code=code)
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)


def test_help_is_quick() -> None:
    code = "import sys; from anomap.cli.entry import predict\ntry: predict()\nfinally: print(sorted(sys.modules))"
    done = _execute("--help", code=code)
    assert "anomap-predict checkpoint=CKPT input=DIR" in done.stdout
    assert "'torch'" not in done.stdout
    assert "'numpy'" not in done.stdout


def test_only_a_few_images_and_maps_are_in_memory(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(200):
        save(tmp_path / "input" / f"{number}.png", number)
    images: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
    maps: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
    most_images, most_maps, numbers = 0, 0, itertools.count()
    read, observe_batch = Preprocessing.read_sized, Detector.observe_batch

    def counting_read(self: Preprocessing, path: Path) -> Any:
        nonlocal most_images
        image, size = read(self, path)
        image = images[next(numbers)] = image.copy()
        most_images = max(most_images, len(images))
        return image, size

    def counting_score(self: Detector, batch: Any, sizes: Any = None) -> Any:
        nonlocal most_maps
        scores, planes, statistics = observe_batch(self, batch, sizes)
        planes = maps[next(numbers)] = planes.copy()
        most_maps = max(most_maps, len(maps))
        return scores, planes, statistics

    monkeypatch.setattr(Preprocessing, "read_sized", counting_read)
    monkeypatch.setattr(Detector, "observe_batch", counting_score)
    assert predict(config(run, tmp_path / "input", batch_size=10, overlays="all"), tmp_path / "out").scored == 200
    assert most_maps <= 2  # this batch's and the last one's
    assert most_images <= 20 + ITEMS_AT_A_TIME * (worker_count() + 2)  # two batches, and what is read ahead


def test_a_summary_without_time_has_no_rate(capsys: pytest.CaptureFixture[str]) -> None:
    predict_module.print_summary(PredictionSummary(Path("x")))
    assert "images/s" not in capsys.readouterr().out
