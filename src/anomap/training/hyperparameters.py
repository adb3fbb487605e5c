"""What TensorBoard's HParams tab shows of a run: its configuration and its final metrics."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.plugins.hparams.summary_v2 import hparams_pb

from anomap.config import flat


def log_hyperparameters(logger: TensorBoardLogger, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """Write a run's row of the HParams tab; once per run, when its metrics are final.

    Not by Lightning, which also writes a list of columns: TensorBoard would take one run's list for all of a sweep's.
    Without it the tab has the keys of all runs (`model.name`, `seed`, …), and shows those first that differ.
    Of the metrics, numbers about images, pixels and the test become `hp/image_auroc`, …
    """
    shown = {key: value for key, value in flat(config).items() if not key.endswith("_target_")}
    values = {key: value if isinstance(value, bool | int | float) else str(value) for key, value in shown.items()}
    measured = {key: value for key, value in metrics.items() if key.startswith(("image_", "pixel_", "test_"))}
    logger.experiment._get_file_writer().add_summary(hparams_pb(values))
    logger.log_metrics({f"hp/{key}": value for key, value in measured.items() if isinstance(value, float)}, step=0)
    logger.finalize("success")
