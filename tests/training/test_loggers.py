"""Loggers for other tools, the user's callbacks, and the debug presets."""

import csv
import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from anomap.cli import resume
from anomap.commands.train import train
from anomap.config import PLUGINS
from anomap.errors import UserError
from anomap.runs.folder import RunFolder
from anomap.training.checkpoints import SECTION, goes_on
from anomap.training.loggers import check_loggers, make_callbacks, make_loggers
from tests import tiny

QUICK = ("model=ganomaly", "controls=false")
RESULTS = {"image_auroc", "image_ap", "test_fpr", "test_tpr", "pixel_ap"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_folder(tmp_path_factory.mktemp("data"))


class Counting(pl.Callback):
    """A callback of the user's own."""

    ends: ClassVar[list[str]] = []

    def __init__(self, place: str) -> None:
        self.place = place

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.ends.append(self.place)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "csv/version_0/metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def final(folder: Path) -> dict[str, float]:
    """What the last row of a run's table says of the test."""
    return {key: float(value) for key, value in rows(folder)[-1].items() if key in RESULTS}


def expected(metrics: dict[str, Any]) -> dict[str, Any]:
    return {key: pytest.approx(metrics[key]) for key in RESULTS}


def test_several_loggers_write_into_the_runs_folder(tmp_path: Path) -> None:
    config = tiny.config("logger=[tensorboard,csv]")
    board, table = make_loggers(config, RunFolder(tmp_path / "run"))
    assert isinstance(board, TensorBoardLogger)
    assert isinstance(table, CSVLogger)
    assert Path(board.log_dir) == tmp_path / "run/tensorboard"
    assert Path(table.log_dir) == tmp_path / "run/csv/version_0"
    assert make_loggers(tiny.config("logger=none"), RunFolder(tmp_path)) == []


def test_the_results_reach_every_logger_of_a_method_that_is_not_trained(data: Path, tmp_path: Path) -> None:
    config = tiny.config("model=control_mean", "controls=false", "logger=[csv,tensorboard]", f"data.root={data}")
    metrics = train(config, tmp_path)
    assert final(tmp_path) == expected(metrics)
    assert "model.name: control_mean" in (tmp_path / "csv/version_0/hparams.yaml").read_text()
    assert list((tmp_path / "tensorboard").glob("events*"))


@pytest.mark.thorough
def test_both_stages_have_their_table_and_the_users_callbacks(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLUGINS, __name__)
    monkeypatch.setattr(Counting, "ends", [])
    mine = {"_target_": f"{__name__}.Counting", "place": "{run}"}
    config = tiny.config("model=adgan", "controls=false", "logger=csv", f"data.root={data}") | {
        "callbacks": {"a": mine}
    }
    metrics = train(config, tmp_path / "run")
    assert Counting.ends == ["run/stage1", f"{tmp_path.name}/run"]
    assert final(tmp_path / "run") == expected(metrics)
    for folder in (tmp_path / "run", tmp_path / "run/stage1"):
        assert any("loss" in key and value for row in rows(folder) for key, value in row.items())


def test_callbacks_are_none_by_default_and_new_for_every_stage(tmp_path: Path) -> None:
    assert make_callbacks(tiny.config(), RunFolder(tmp_path)) == []
    config = tiny.config("callbacks=device_stats")
    first, second = (make_callbacks(config, RunFolder(tmp_path)) for _ in range(2))
    assert first[0] is not second[0]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_one_line_before_anything_else(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None if package == name else object())
    with pytest.raises(UserError, match=rf'logger={name} is not installed: pip install "anomap\[{name}\]"'):
        train(tiny.config(f"logger=[csv,{name}]"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    check_loggers(tiny.config("logger=[csv,tensorboard]"))


def test_nothing_leaves_the_machine_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tiny._config.cache_clear()
    logger = tiny.config("logger=[wandb,mlflow]")["logger"]
    assert (logger["wandb"]["mode"], logger["mlflow"]["tracking_uri"]) == ("offline", "sqlite:///mlflow.db")
    assert tiny.config("logger=wandb", "logger.wandb.mode=online")["logger"]["wandb"]["mode"] == "online"


def test_mlflow_gets_settings_and_results(data: Path, tmp_path: Path) -> None:
    mlflow: Any = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    train_with = ("logger=mlflow", f"logger.mlflow.tracking_uri={uri}", f"data.root={data}")
    metrics = train(tiny.config("model=control_mean", "controls=false", *train_with), tmp_path / "run")
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("anomap").experiment_id])
    assert run.data.params["model.name"] == "control_mean"
    assert (run.info.run_name, run.info.status) == (f"{tmp_path.name}/run", "FINISHED")
    assert {key: run.data.metrics[key] for key in RESULTS} == expected(metrics)


def test_wandb_writes_a_run_of_its_own_for_every_training(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    for name in ("a", "b"):
        train(tiny.config("model=control_mean", "logger=wandb", f"data.root={data}"), tmp_path / name)
        (folder,) = (tmp_path / name / "wandb").glob("offline-run-*")
        assert list(folder.glob("*.wandb"))


# --- debug ---


def test_one_batch_goes_through_everything(data: Path, tmp_path: Path) -> None:
    config = tiny.config(*QUICK, "debug=one_batch", f"data.root={data}")
    metrics = train(config, tmp_path)
    assert (metrics["steps"], metrics["n_train"], metrics["n_test_normal"], metrics["n_test_abnormal"]) == (1, 4, 3, 1)
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.thorough
def test_overfitting_trains_on_ten_images_again_and_again(data: Path, tmp_path: Path) -> None:
    config = tiny.config(*QUICK, "debug=overfit", "logger=csv", f"data.root={data}", "trainer.max_epochs=30")
    metrics = train(config, tmp_path)
    assert (metrics["n_train"], metrics["epochs"]) == (10, 30)
    name = "generator loss/reconstruction"
    losses = [float(row[name]) for row in rows(tmp_path) if row[name]]
    assert losses[-1] < losses[0]


def test_the_profiler_writes_a_table_and_prints_none(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train(tiny.config(*QUICK, "debug=profiler", f"data.root={data}"), tmp_path)
    assert "training_step" in (tmp_path / "profile/fit-simple.txt").read_text()
    assert "training_step" not in "".join(capfd.readouterr())


def test_what_only_watches_does_not_make_another_run_and_debugging_does(tmp_path: Path) -> None:
    from anomap.detection import checkpoint

    run = RunFolder(tmp_path)
    config = tiny.config(*QUICK)
    checkpoint.save(run.last_checkpoint, {SECTION: config})
    for same in ("logger=csv", "logger=[csv,tensorboard]", "trainer.profiler=simple", "trainer.detect_anomaly=true"):
        assert goes_on(run.last_checkpoint, tiny.config(*QUICK, same)), same
        assert resume.arguments([f"resume={tmp_path}", same])[-1] == same
    for other in ("debug=one_batch", "debug=overfit", "callbacks=device_stats", "data.limit=5"):
        assert not goes_on(run.last_checkpoint, tiny.config(*QUICK, other)), other
        with pytest.raises(UserError, match=other.partition("=")[0]):
            resume.arguments([f"resume={tmp_path}", other])
