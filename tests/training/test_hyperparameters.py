"""TensorBoard's HParams tab over a sweep's folder, asked as the tab asks."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import list_session_groups
from tensorboard.plugins.hparams.api_pb2 import ListSessionGroupsRequest  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.plugins.hparams.backend_context import Context

from anomap.runs.folder import RunFolder
from anomap.training.hyperparameters import log_hyperparameters


def tab(folder: Path) -> tuple[Any, list[Any]]:
    """The columns of the tab, and its rows."""
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(multiplexer, str(folder))))
    ctx = RequestContext()
    columns = context.experiment_from_metadata(
        ctx, "", True, context.hparams_metadata(ctx, ""), context.hparams_from_data_provider(ctx, "", limit=None)
    )
    request = ListSessionGroupsRequest(start_index=0, slice_size=100, allowed_statuses=[0, 1, 2, 3])
    for metric in columns.metric_infos:
        request.col_params.add().metric.CopyFrom(metric.name)
    found = list_session_groups.Handler(ctx, context, "", request).run()
    return columns, list(found.session_groups)


RUNS = {
    "model=a,seed=0": (["figures=false", "model=a", "seed=0", "+data.x=2.5", "data.image_size=[32,64]"], "32x64", 0.75),
    "model=b,seed=0": (["figures=false", "model=b", "seed=0", "+data.x=7", "data.image_size=32"], "32x32", 0.5),
    "model=b,seed=1": (["figures=false", "model=b", "seed=1", "+data.x=7", "data.image_size=32"], "32x32", 1.0),
}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for name, (overrides, size, value) in RUNS.items():
        run = RunFolder(tmp_path / name)
        (run.path / ".hydra").mkdir(parents=True)
        (run.path / ".hydra/overrides.yaml").write_text(yaml.safe_dump(overrides))
        _, model, seed = name.replace(",seed", "").split("=")
        write(run, {"model": model, "data": "folder", "seed": int(seed), "image_size": size, "image_auroc": value})
    return tmp_path


def write(run: RunFolder, metrics: dict[str, Any]) -> None:
    logger = TensorBoardLogger(str(run.tensorboard), name="", version="", default_hp_metric=False)
    logger.log_metrics({"generator loss/total": 0.5}, 10)
    log_hyperparameters(logger, run, {"image_ap": 0.9, "test_fpr": 0.1, "test_tpr": None, "n_train": 8, **metrics}, 60)


def test_the_tab_shows_what_was_swept_and_the_results_of_every_run(sweep: Path) -> None:
    columns, rows = tab(sweep)
    assert [info.name for info in columns.hparam_infos] == [
        "data.image_size",
        "data.x",
        "model",
        "seed",
        "data",
    ]  # asked for, and not
    names = [metric.name.tag for metric in columns.metric_infos]
    assert names == ["result/AUROC", "result/AP", "result/FPR", "result/TPR", "result/pixel AP"]
    found = set()
    for row in rows:
        metrics = {value.name.tag: value.value for value in row.metric_values}
        assert metrics["result/AP"] == pytest.approx(0.9)
        assert "result/TPR" not in metrics  # without abnormal images there is none
        found.add((row.hparams["model"].string_value, row.hparams["seed"].number_value, metrics["result/AUROC"]))
    assert found == {("a", 0, 0.75), ("b", 0, 0.5), ("b", 1, 1.0)}
    assert {row.name for row in rows} == {f"{name}/tensorboard" for name in RUNS}


def test_numbers_are_numbers_and_lists_are_text(sweep: Path) -> None:
    _, rows = tab(sweep)
    row = next(row for row in rows if row.hparams["model"].string_value == "a")
    assert row.hparams["data.x"].number_value == 2.5
    assert row.hparams["data.image_size"].string_value == "[32,64]"


def test_a_run_that_was_asked_for_nothing_shows_what_every_run_shows(tmp_path: Path) -> None:
    write(RunFolder(tmp_path), {"model": "a", "data": "elpv", "seed": 0, "image_size": "256x256", "image_auroc": 0.5})
    columns, (row,) = tab(tmp_path)
    assert [info.name for info in columns.hparam_infos] == ["data", "data.image_size", "model", "seed"]
    assert row.hparams["data.image_size"].string_value == "256x256"
