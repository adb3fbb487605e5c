"""The folder of a run: where its files lie, files that are written whole or not at all, and `metrics.json`.

A killed sweep can therefore trust whatever it finds when it is started again.
"""

import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from anomap.errors import UserError

MetricValue = float | int | str | None

# The order in which people read them; any other key follows alphabetically.
_METRIC_ORDER = (
    *("image_auroc", "image_auroc_low", "image_auroc_high", "image_ap", "image_f1"),
    *("threshold", "threshold_strategy", "threshold_note", "promised_fpr", "calibration_fpr"),
    *("test_fpr", "test_fpr_low", "test_fpr_high", "test_tpr", "test_tpr_low", "test_tpr_high"),
    *("pixel_auroc", "pixel_ap", "pixel_aupro", "pixel_note"),
    *("estimate_auroc", "estimate_tpr", "estimate_note"),
    *("n_suspicious", "training_note"),
    *("n_train", "n_calibration", "n_scaling", "n_test_normal", "n_test_abnormal"),
    *("train_seconds", "train_images_per_second", "score_images_per_second", "score_mflop_per_image"),
    "peak_rss_mb",
    *("seed", "model", "data", "augmentation", "image_size", "epochs", "checkpoint"),
)
_TEMPORARY = ".tmp-"


class RunFolder:
    """Paths inside one run's folder, which need not exist; creates nothing by itself."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config = self.path / ".hydra" / "config.yaml"
        self.metrics = self.path / "metrics.json"
        self.scores = self.path / "scores.csv"
        self.thresholds = self.path / "thresholds.csv"
        self.suspicious = self.path / "suspicious.csv"
        self.estimate = self.path / "estimate.csv"
        self.last_checkpoint = self.path / "checkpoints" / "last.ckpt"
        self.tensorboard = self.path / "tensorboard"
        self.figures = self.path / "figures"
        self.report = self.path / "report.html"

    @property
    def stage1(self) -> "RunFolder":
        """The folder of the first of two stages."""
        return RunFolder(self.path / "stage1")

    @property
    def finished(self) -> bool:
        """Whether the run came to its end: `metrics.json` is the last file a run writes."""
        return self.metrics.is_file()


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A new file to write into. It replaces `path` at the end of the block; if the block fails, nothing of it is left.

    Missing parent folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{_TEMPORARY}{secrets.token_hex(8)}"  # same folder: a rename across disks is a copy
    try:
        with open(temporary, "xb") as file:  # unlike mkstemp, gives the permissions the user's umask asks for
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write `content` so that `path` is at every moment either the old file or the whole new one.

    Text is UTF-8; file names that were not valid UTF-8 keep their bytes.
    """
    with replacing(path) as file:
        file.write(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)


def remove_temporaries(folder: str | os.PathLike[str]) -> None:
    """Remove what a process left half-written in `folder` and below when it was killed."""
    for path in Path(folder).rglob(f"{_TEMPORARY}*"):
        path.unlink(missing_ok=True)


def write_metrics(path: str | os.PathLike[str], metrics: Mapping[str, Any]) -> None:
    """Write a flat `metrics.json`: numbers, strings, null; TypeError for any other value.

    NaN and infinity become null, a bool 1 or 0, a path a string.
    """
    rank = {key: position for position, key in enumerate(_METRIC_ORDER)}
    keys = sorted(metrics, key=lambda key: (rank.get(key, len(rank)), key))
    values = {key: _plain(key, metrics[key]) for key in keys}
    write_atomically(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def _plain(key: str, value: Any) -> MetricValue:
    if hasattr(value, "item"):  # NumPy scalar or 0-d tensor
        value = value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if not isinstance(value, float | int | str | None):
        raise TypeError(f"metric {key!r} must be a number, a string or None, not {type(value).__name__}")
    if isinstance(value, bool):
        return int(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_metrics(path: str | os.PathLike[str]) -> dict[str, MetricValue]:
    """Read what `write_metrics` wrote; UserError if the file is missing, unreadable or not a flat JSON object."""
    try:
        metrics = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot read the metrics ({error.strerror}); give a finished run's folder") from None
    except ValueError:
        raise UserError(f"{path}: not a JSON file; run the evaluation again to write it anew") from None
    if not isinstance(metrics, dict) or any(isinstance(value, dict | list) for value in metrics.values()):
        raise UserError(f"{path}: not a flat JSON object; run the evaluation again to write it anew")
    return metrics
