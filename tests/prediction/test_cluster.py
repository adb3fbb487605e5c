"""anomap-predict engine=ray: what engine=local says, in shards that are whole, once each, and go on after any end."""

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from anomap.cli import signals
from anomap.commands.predict import command, predict
from anomap.errors import Stopped, UserError
from anomap.prediction import cluster
from anomap.prediction.settings import RaySettings, Settings
from anomap.prediction.table import PREDICTION_COLUMNS, PredictionRow, read_rows
from tests import tiny
from tests.data.helpers import save
from tests.finished import Run, Runs

from .test_predict import composed, read_predictions

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="session")
def run(runs: Runs) -> Run:
    return runs("model=ganomaly")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Nine images in two folders, and two files that are none; one name is no UTF-8."""
    folder = tmp_path / "input"
    for number in range(8):
        save(folder / ("" if number % 2 else "sub") / f"{number}.png", seed=number)
    os.replace(folder / "7.png", os.path.join(os.fsencode(folder), b"\xff7.png"))
    save(folder / "wide.png", seed=9)
    for name in ("broken.png", "sub/=odd.png"):
        (folder / name).write_bytes(b"junk")
    return folder


def config(run: Run, source: Path, **changes: Any) -> dict[str, Any]:
    base = composed("engine=ray", "ray.workers=2", "ray.shard_size=4", "batch_size=2", "recursive=true")
    return {**base, "checkpoint": str(run.folder.last_checkpoint), "input": str(source), **changes}


def found(folder: Path) -> list[PredictionRow]:
    return sorted(read_rows(folder), key=lambda row: row.path)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_ray_does_not_keep_the_signal() -> None:
    """Ray takes SIGTERM when it starts, and would end the command with another status, its tables open."""
    pytest.importorskip("ray.data")
    before = signal.signal(signal.SIGTERM, signals.obey)
    try:
        with pytest.raises(Stopped), cluster._running(RaySettings(**composed("ray.workers=1")["ray"])):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_two_workers_say_what_one_process_says_and_go_on(
    run: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray.data")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray's processes would give way to whatever else runs
    out = tmp_path / "out"
    command(config(run, images, overlays="all"), out)
    predict({**config(run, images, overlays="all"), "engine": "local"}, tmp_path / "local")
    local = {row.path: row for row in read_predictions(tmp_path / "local/scores.csv")}
    assert [row.path for row in read_predictions(out / "scores.csv")] == sorted(local)
    assert [row.path for row in found(out)] == sorted(local)
    assert len(local) == 9
    for row in found(out):
        assert row.score == pytest.approx(local[row.path].score, rel=1e-6)
        assert (row.threshold, row.prediction) == (local[row.path].threshold, local[row.path].prediction)
    assert tuple(pq.read_table(out / "scores").column_names) == PREDICTION_COLUMNS
    shards = {path: path.stat().st_mtime_ns for path in (out / "scores").iterdir()}
    assert len(shards) == 3
    with (out / "unreadable.csv").open(newline="") as file:
        assert sorted(name for name, _ in csv.reader(file)) == ["broken.png", "path", "sub/=odd.png"]
    assert (out / "unreadable.csv").read_bytes().splitlines()[0] == (
        tmp_path / "local/unreadable.csv"
    ).read_bytes().splitlines()[0]
    drawn = [
        {path.relative_to(top) for path in top.rglob("*.png")}
        for top in (out / "overlays", tmp_path / "local/overlays")
    ]
    assert drawn[0] == drawn[1]
    assert (out / "contact_sheet.png").stat().st_size > 1000
    assert "scored       9 images" in capsys.readouterr().out
    # what a killed worker leaves: one shard is not there; and an image came, one was mended
    lost = next(iter(shards))
    gone = pq.read_metadata(lost).num_rows
    lost.unlink()
    save(images / "broken.png", seed=11)
    again = predict(config(run, images, overlays="none"), out)
    assert (again.scored, again.earlier, again.unreadable) == (gone + 1, 9 - gone, 1)
    rows = found(out)
    assert [row.path for row in rows] == sorted([*local, "broken.png"])
    assert {path: path.stat().st_mtime_ns for path in shards if path != lost} == {
        path: time for path, time in shards.items() if path != lost
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_workers_cut_photographs_into_tiles(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray.data")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    photographs = tiny.write_photographs(tmp_path / "photographs")
    asked = config(runs("model=control_pca", "data.tile=32"), photographs / "test", overlays="all")
    predict(asked, tmp_path / "out")
    predict({**asked, "engine": "local"}, tmp_path / "local")
    local = {row.path: row.score for row in found(tmp_path / "local")}
    assert len(local) == 8
    assert {row.path: row.score for row in found(tmp_path / "out")} == pytest.approx(local, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ray": {"workers": 0}}, "ray.workers=0"),
        ({"ray": {"shard_size": None}}, "ray.shard_size=None"),
        ({"ray": {"cpus_per_worker": 1.5}}, "ray.cpus_per_worker=1.5"),
        ({"ray": {"gpus_per_worker": -1}}, "ray.gpus_per_worker=-1"),
    ],
)
def test_bad_keys_are_one_line(run: Run, images: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    given = config(run, images)
    given |= {key: {**given[key], **value} if isinstance(value, dict) else value for key, value in changes.items()}
    with pytest.raises(UserError, match=message):
        predict(given, tmp_path / "out")


def test_without_ray_the_extra_is_named(
    run: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match=r'pip install "anomap\[ray\]"'):
        predict(config(run, images), tmp_path / "out")


def test_one_engine_goes_on_where_the_other_was(run: Run, images: Path, tmp_path: Path) -> None:
    """Without Ray: nothing is left for its workers."""
    (images / "broken.png").unlink()
    (images / "sub/=odd.png").unlink()
    predict({**config(run, images, overlays="none"), "engine": "local"}, tmp_path)
    again = predict(config(run, images, overlays="none"), tmp_path)
    assert (again.scored, again.earlier) == (0, 9)


def test_a_worker_writes_a_shard_that_is_called_after_its_names(run: Run, images: Path, tmp_path: Path) -> None:
    """Without Ray: the class that Ray Data runs."""
    import pyarrow as pa

    settings = Settings.of(config(run, images, overlays="none"))
    worker = cluster.Worker(settings, images, tmp_path, 0.5)
    names = pa.table({"names": [json.dumps(["\udcff7.png", "broken.png", "1.png", "sub/2.png"])]})
    for _ in range(2):  # done twice, it is there once
        scored, _, failures, problem = json.loads(worker(names)["told"][0].as_py())
        assert (scored, [name for name, _ in failures], problem) == (3, ["broken.png"], None)
    assert [row.path for row in found(tmp_path)] == ["1.png", "\\udcff7.png", "sub/2.png"]
    assert len(list((tmp_path / "scores").iterdir())) == 1
    worker.folder = tmp_path / "scores" / "file"
    worker.folder.write_bytes(b"")
    assert "cannot be written" in json.loads(worker(names)["told"][0].as_py())[-1]
