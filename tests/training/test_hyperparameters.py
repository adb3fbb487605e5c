"""TensorBoard's HParams tab over a sweep's folder, asked as the tab asks."""

from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import list_session_groups
from tensorboard.plugins.hparams.api_pb2 import ListSessionGroupsRequest  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.plugins.hparams.backend_context import Context

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
    "model=a,seed=0": ({"model": {"name": "a", "depth": 3}, "seed": 0, "data": {"image_size": [32, 64]}}, 0.75),
    "model=b,seed=0": ({"model": {"name": "b", "stage1": None}, "seed": 0, "data": {"image_size": 32}}, 0.5),
    "model=b,seed=1": ({"model": {"name": "b", "stage1": None}, "seed": 1, "data": {"image_size": 32}}, 1.0),
}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for name, (config, value) in RUNS.items():
        logger = TensorBoardLogger(str(tmp_path / name / "tensorboard"), name="", version="", default_hp_metric=False)
        fixed = {"controls": True, "trainer": {"max_epochs": 2}}
        log_hyperparameters(logger, {**config, **fixed}, {"image_auroc": value, "train_seconds": 3.0, "n_train": 8})
    return tmp_path


def test_the_tab_shows_the_swept_keys_and_the_auroc_of_every_run(sweep: Path) -> None:
    columns, rows = tab(sweep)
    assert {info.name for info in columns.hparam_infos if info.differs} >= {"model.name", "seed", "data.image_size"}
    # of several models each has keys of its own
    assert {"model.depth", "model.stage1", "trainer.max_epochs"} <= {info.name for info in columns.hparam_infos}
    assert not {info.name for info in columns.hparam_infos if info.differs} & {"controls", "trainer.max_epochs"}
    found = set()
    for row in rows:
        (metric,) = [value for value in row.metric_values if value.name.tag == "hp/image_auroc"]
        found.add((row.hparams["model.name"].string_value, row.hparams["seed"].number_value, metric.value))
    assert found == {("a", 0, 0.75), ("b", 0, 0.5), ("b", 1, 1.0)}


def test_numbers_stay_numbers(sweep: Path) -> None:
    _, rows = tab(sweep)
    row = next(row for row in rows if row.hparams["model.name"].string_value == "a")
    assert row.hparams["trainer.max_epochs"].number_value == 2
    assert row.hparams["controls"].bool_value is True
    assert row.hparams["data.image_size"].string_value == "[32, 64]"
