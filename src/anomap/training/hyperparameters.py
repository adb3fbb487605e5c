"""What TensorBoard's HParams tab shows of a run: what it was asked for, and what came out."""

from collections.abc import Collection, Mapping
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # pyright: ignore[reportAttributeAccessIssue]
from torch.utils.tensorboard.summary import hparams

from anomap.runs.folder import RunFolder
from anomap.runs.jobs import as_number, read_overrides
from anomap.training.stopping import changing

SETTINGS = {"model": "model", "data": "data", "seed": "seed", "data.image_size": "image_size"}  # of every run
# column -> key of `metrics.json`, here and above
RESULTS = {
    "result/AUROC": "image_auroc",
    "result/AP": "image_ap",
    "result/FPR": "test_fpr",
    "result/TPR": "test_tpr",
    "result/pixel AP": "pixel_ap",
}


def log_hyperparameters(logger: TensorBoardLogger, run: RunFolder, metrics: Mapping[str, Any], step: int = 0) -> None:
    """Write a run's row of the HParams tab; once per run, when its metrics are final, after so many steps.

    Its settings are what the command line said, apart from what changes no result, and those of every run. Each run also
    lists the columns, or TensorBoard would make one of every loss. It takes the list of one run for all it shows: the jobs
    of a sweep have the same list, but of unrelated runs in one folder only the columns of the first are seen.
    """
    asked = {key: value for key, value in (read_overrides(run.path) or {}).items() if not changing(key)}
    given = {key: str(metrics[name]) for key, name in SETTINGS.items()} | asked
    numbers = {key: as_number(value) for key, value in given.items()}
    values = {key: value if numbers[key] is None else numbers[key] for key, value in given.items()}
    columns, *row = hparams(values, dict.fromkeys(RESULTS))
    _put_first(asked, columns)
    for summary in (columns, *row):
        logger.experiment._get_file_writer().add_summary(summary)
    found = {tag: metrics.get(name) for tag, name in RESULTS.items()}
    logger.log_metrics({tag: value for tag, value in found.items() if isinstance(value, float)}, step)
    logger.finalize("success")


def _put_first(keys: Collection[str], columns: Any) -> None:
    """Mark these settings as those that differ: TensorBoard shows them first, and at the start no more than five."""
    (value,) = columns.value
    data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
    for info in data.experiment.hparam_infos:
        info.differs = info.name in keys
    value.metadata.plugin_data.content = data.SerializeToString()
