"""Training on tiles of photographs of mixed sizes: resumed, from a mapped file, in two processes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anomap import Detector
from anomap.commands.train import train
from anomap.data.build import build_data
from anomap.data.imageset import to_float
from anomap.data.sampler import TrainBatches
from anomap.runs.folder import RunFolder, read_metrics
from anomap.training.monitoring import Monitoring
from anomap.training.train import learn_statistics
from tests import tiny
from tests.tables import read_scores
from tests.training.resuming import DATA, Whole, stop_and_go_on
from tests.training.resuming import steps as counted
from tests.training.test_processes import finish, start, steps

pytestmark = pytest.mark.thorough

TILED = ("data.tile=32", "data.calibration_fraction=0.4", "data.batch_size=16")
METHOD = ("model=attention_network", "model.optimizer.schedule=cosine")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def whole(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    config, folder = tiny.config(f"data.root={photographs}", *DATA, *TILED, *METHOD), tmp_path_factory.mktemp("whole")
    with counted() as taken:
        metrics = train(config, folder)
    return Whole(config, folder, metrics, len(taken))


def test_stopped_inside_an_epoch_and_at_its_end(whole: Whole, tmp_path: Path) -> None:
    assert whole.steps % 2 == 0
    for after in (1, whole.steps // 2 - 1, whole.steps // 2):
        stop_and_go_on(whole, tmp_path / str(after), after)


def test_a_mapped_file_trains_and_scores_as_memory_does(whole: Whole, tmp_path: Path) -> None:
    config = {**whole.config, "data": {**whole.config["data"], "cache_mb": 0, "cache_dir": str(tmp_path)}}
    data = build_data(config["data"], stride=32)
    data.setup()
    assert isinstance(data.train.images.mapped, np.memmap)  # pyright: ignore[reportAttributeAccessIssue]
    run = Whole(config, tmp_path / "mapped", train(config, tmp_path / "mapped"), whole.steps)
    assert RunFolder(whole.folder).scores.read_bytes() == RunFolder(run.folder).scores.read_bytes()
    for name in ("image_auroc", "pixel_auroc", "threshold"):
        assert whole.metrics[name] == run.metrics[name]
    stop_and_go_on(run, tmp_path / "stopped", 2)


def test_every_epoch_draws_other_tiles_and_the_same_when_drawn_again(photographs: Path) -> None:
    def tiles(epoch: int) -> dict[int, bytes]:
        data = build_data(tiny.config(f"data.root={photographs}", *TILED)["data"], stride=32)
        data.setup()
        loader: Any = data.train_dataloader()
        loader.sampler.set_epoch(epoch)
        found = [pair for batch in loader for pair in zip(batch["index"].tolist(), batch["image"], strict=True)]
        assert sorted(index for index, _ in found) == list(range(len(data.windows(data.train))))
        return {index: image.numpy().tobytes() for index, image in found}

    first, second = tiles(0), tiles(1)
    assert first == tiles(0)
    same = sum(first[index] == second[index] for index in first)
    assert same < len(first) / 4


def test_contrast_is_watched_in_the_units_of_tiles(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []

    def watch(_: Monitoring, _epoch: int, _made: float, given: float) -> dict[str, float]:
        seen.append(given)
        return {}

    monkeypatch.setattr(Monitoring, "_watch_contrast", watch)
    train(tiny.config(f"data.root={photographs}", *TILED, "model=skip_ganomaly", "controls=false"), tmp_path)
    assert len(seen) == 1
    assert 0.05 < seen[0] < 0.5  # of images in [0, 1], not of bytes


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_share_the_tiles_and_one_does_the_rest(photographs: Path, tmp_path: Path) -> None:
    folder, options = tmp_path / "two", ("model=attention_network", *TILED, "data.batch_size=8")
    _, err = finish(start(folder, photographs, *options, "trainer=ddp_cpu"))
    assert "rror" not in err
    both = steps(folder)
    assert len(both) == 2
    assert [step[2] for step in both[0]] == [step[2] for step in both[1]]
    data = build_data(tiny.config(f"data.root={photographs}", *TILED)["data"], stride=32)
    data.setup()
    count = len(data.windows(data.train))
    epoch_length = len(TrainBatches(count, 8, world_size=2))
    assert len(both[0]) == epoch_length * 2
    for first in (0, epoch_length):
        samples = [i for rank in both for step in rank[first : first + epoch_length] for i in step[1]]
        assert sorted(samples) == list(range(count))
    assert read_metrics(folder / "metrics.json")["n_train"] == len(data.train)
    rows = {row.path: row.score for row in read_scores(RunFolder(folder).scores)}
    scores = Detector.load(RunFolder(folder).last_checkpoint).score([photographs / path for path in rows])
    assert len(rows) == 8
    assert dict(zip(rows, scores.tolist(), strict=True)) == pytest.approx(rows, rel=1e-4, abs=1e-4)


@pytest.mark.skipif(not tiny.PRETRAINED, reason="needs the extra [pretrained]")
def test_features_kept_for_the_statistics_are_not_taken_for_those_of_other_tiles(photographs: Path) -> None:
    config = tiny.config(f"data.root={photographs}", *TILED, "model=feature_attention_network")
    objective = tiny.objective("feature_attention_network")
    data = build_data(config["data"], seed=1, stride=objective.stride)
    data.setup()
    learn_statistics(objective, data, torch.device("cpu"))
    batch = next(iter(data.train_dataloader()))
    images = to_float(batch["image"])
    assert torch.equal(objective.representation.clean(images, batch["index"]), objective.representation(images))
