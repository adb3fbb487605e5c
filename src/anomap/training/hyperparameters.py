"""What TensorBoard's HParams tab shows of a run: its configuration and its final metrics."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.plugins.hparams.summary_v2 import hparams_pb

from anomap.config import flat

_METRICS = ("image_", "pixel_", "test_")


def log_hyperparameters(logger: TensorBoardLogger, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Write a run's row of the HParams tab; once per run, when its metrics are final.

    Only the values of this run are written, not `Experiment`, the list of columns that Lightning writes with them: of
    several runs TensorBoard would take one's list for all. Without it, the tab over a sweep's folder has the keys of all
    runs, and shows those first that differ between them.

    Args:
        logger: of the run.
        config: the run's configuration, plain; its keys become `model.name`, `seed`, …
        metrics: of `metrics.json`; numbers about images, pixels and the test become `hp/image_auroc`, …
    """
    values = {key: _value(value) for key, value in flat(config).items() if not key.endswith("_target_")}
    numbers = {
        f"hp/{name}": value for name, value in metrics.items() if isinstance(value, float) and name.startswith(_METRICS)
    }
    logger.experiment._get_file_writer().add_summary(hparams_pb(values))
    logger.log_metrics(numbers, step=0)
    logger.finalize("success")


def _value(value: Any) -> bool | float | str:
    """Numbers stay numbers, so that the tab can sort and draw them."""
    return value if isinstance(value, bool | int | float | str) else str(value)
