"""Training in several processes: shares, equal states, one voice."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy

from anomap.data.build import build_data
from anomap.data.sampler import TrainBatches
from anomap.detection.checkpoint import load_model
from anomap.errors import UserError
from anomap.runs.folder import RunFolder, read_metrics
from anomap.training.processes import check_processes, go_on_alone, trainer_arguments
from tests import tiny
from tests.tables import read_scores
from tests.training.resuming import assert_same


def test_ddp_is_made_for_two_networks_trained_in_turns() -> None:
    for name in ("ddp", "ddp_find_unused_parameters_true"):
        strategy = trainer_arguments({"strategy": name, "devices": 2})["strategy"]
        assert isinstance(strategy, DDPStrategy)
        assert strategy._ddp_kwargs == {"find_unused_parameters": True, "broadcast_buffers": False}
    assert trainer_arguments({"devices": 1}) == {"devices": 1}
    assert trainer_arguments({"strategy": "auto"}) == {"strategy": "auto"}


def test_several_processes_need_ddp_and_an_image_each(tmp_path: Path) -> None:
    def trainer(**options: Any) -> pl.Trainer:
        return pl.Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, **trainer_arguments(options))

    check_processes(trainer(devices=1), 1)
    check_processes(trainer(devices=2, strategy="ddp"), 2)
    with pytest.raises(UserError, match=r"trainer\.strategy=ddp"):
        check_processes(trainer(devices=2), 2)
    with pytest.raises(UserError, match="2 processes for 1 training images"):
        check_processes(trainer(devices=2, strategy="ddp"), 1)


def test_a_single_process_is_alone_already() -> None:
    go_on_alone()


# --- the command itself ---


def start(folder: Path, data: Path | None, *overrides: str) -> "subprocess.Popen[str]":
    """`anomap-train` in a folder of its own, watched; without `data` only with these overrides."""
    watched = folder.with_name(f"{folder.name}-watched")
    watched.mkdir(exist_ok=True)
    fixed = (
        *("data=folder", f"data.root={data}", "data.image_size=32", "data.channels=1", "data.batch_size=3"),
        *("controls=false", "trainer.max_epochs=2", f"hydra.run.dir={folder}"),
    )
    arguments = [*(fixed if data else ()), *overrides]
    return subprocess.Popen(
        [sys.executable, Path(__file__).with_name("watched_train.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "WATCHED": str(watched), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def finish(process: "subprocess.Popen[str]", status: int = 0) -> tuple[str, str]:
    out, err = process.communicate(timeout=600)
    assert process.returncode == status, (out, err)
    return out, err


def steps(folder: Path) -> list[list[tuple[int, list[int], str]]]:
    """For each process, (epoch, samples, state) of every step."""
    files = sorted(folder.with_name(f"{folder.name}-watched").iterdir())
    return [[tuple(json.loads(line)) for line in file.read_text().splitlines()] for file in files]


def names(folder: Path) -> set[str]:
    """All files of a run; those of TensorBoard are called after the process."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {"tensorboard" if "tensorboard" in name else name for name in found}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_folder(tmp_path_factory.mktemp("data"), train=18)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", tiny.TRAINED)
def test_two_processes_share_the_training_and_one_does_the_rest(model: str, data: Path, tmp_path: Path) -> None:
    folder, alone = tmp_path / "two", tmp_path / "one"
    _, err = finish(start(folder, data, f"model={model}", "trainer=ddp_cpu"))
    assert "rror" not in err
    metrics = read_metrics(folder / "metrics.json")
    # every sample once per epoch, and the same state in both after every step
    both = steps(folder)
    assert len(both) == 2
    assert [step[2] for step in both[0]] == [step[2] for step in both[1]]
    count = int(cast(int, metrics["n_train"]))
    epoch_length = len(TrainBatches(count, 3, world_size=2))
    assert len(both[0]) == epoch_length * 2 * (2 if "adgan" in model else 1)  # two epochs of each stage
    for first in range(0, len(both[0]), epoch_length):
        samples = [i for rank in both for step in rank[first : first + epoch_length] for i in step[1]]
        assert sorted(samples) == list(range(count))
    # one process on the same weights: the same scores, each test image once
    detector, config = load_model(RunFolder(folder).last_checkpoint)
    module = build_data(config["data"])
    module.setup()
    rows = {row.path: row.score for row in read_scores(RunFolder(folder).scores)}
    assert len(read_scores(RunFolder(folder).scores)) == len(rows) == 7
    with torch.no_grad():
        scores, _ = detector(torch.from_numpy(np.asarray(module.test.images[:])))
    assert dict(zip([s.name for s in module.test.samples], scores.tolist(), strict=True)) == pytest.approx(
        rows,
        rel=1e-4,
        abs=1e-4,  # a sum of parts in units of their deviation, of batches of another size, may be near zero
    )
    assert metrics["n_calibration"] == len(module.calibration)
    if model == "ganomaly":
        finish(start(alone, data, f"model={model}"))
        assert names(alone) == names(folder)  # only rank 0 writes


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_stop_together_and_go_on_together(data: Path, tmp_path: Path) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "stopped"
    options = ("model=ganomaly", "trainer=ddp_cpu", "trainer.max_epochs=60", "logger=none")
    finish(start(whole, data, *options))
    process = start(folder, data, *options)
    checkpoint = RunFolder(folder).last_checkpoint
    while not checkpoint.is_file():
        assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGTERM)
    _, err = finish(process, 143)
    assert err == f"stopped by SIGTERM; go on with: anomap-train resume={folder}\n"
    finish(start(folder, None, f"resume={folder}"))
    assert_same(whole, folder, read_metrics(whole / "metrics.json"), read_metrics(folder / "metrics.json"))
    assert [step[2] for step in steps(whole)[0]] == [step[2] for step in steps(folder)[0]]
