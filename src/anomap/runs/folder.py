"""The run's folder and its files: `metrics.json`, `scores.csv`, `thresholds.csv`, and where everything else lies.

A run writes each file whole or not at all, so a sweep that is killed can trust whatever it finds on restart.
"""

import csv
import io
import json
import math
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from anomap.errors import UserError

MetricValue = float | int | str | None

NORMAL, ABNORMAL = "normal", "abnormal"

# The order in which people read them; any other key follows alphabetically.
_METRIC_ORDER = (
    *("image_auroc", "image_auroc_low", "image_auroc_high", "image_ap", "image_f1"),
    *("threshold", "threshold_strategy", "threshold_note", "promised_fpr", "calibration_fpr", "test_fpr", "test_tpr"),
    *("pixel_auroc", "pixel_ap", "pixel_aupro"),
    *("n_train", "n_calibration", "n_scaling", "n_test_normal", "n_test_abnormal"),
    *("train_seconds", "train_images_per_second", "score_images_per_second", "peak_rss_mb"),
    *("seed", "model", "data", "augmentation", "image_size", "epochs", "checkpoint"),
)


class RunFolder:
    """Paths inside one run's folder; creates nothing by itself."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Point at the folder `path`, which need not exist yet."""
        self.path = Path(path)
        self.config = self.path / ".hydra" / "config.yaml"
        self.metrics = self.path / "metrics.json"
        self.scores = self.path / "scores.csv"
        self.thresholds = self.path / "thresholds.csv"
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

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"


_TEMPORARY = ".tmp-"


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write `content` so that `path` is at every moment either the old file or the whole new one.

    Missing parent folders are made. Text is UTF-8; file names that were not valid UTF-8 keep their bytes.
    """
    path = Path(path)
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{_TEMPORARY}{secrets.token_hex(8)}"  # same folder: a rename across disks is a copy
    try:
        with open(temporary, "xb") as file:  # unlike mkstemp, gives the permissions the user's umask asks for
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_temporaries(folder: str | os.PathLike[str]) -> None:
    """Remove what a process left half-written in `folder` and below when it was killed."""
    for path in Path(folder).rglob(f"{_TEMPORARY}*"):
        path.unlink(missing_ok=True)


def _plain(key: str, value: Any) -> MetricValue:
    if hasattr(value, "item"):  # NumPy scalar or 0-d tensor
        value = value.item()
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, int | str):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"metric {key!r} must be a number, a string or None, not {type(value).__name__}")


def write_metrics(path: str | os.PathLike[str], metrics: Mapping[str, Any]) -> None:
    """Write a flat `metrics.json`: numbers, strings, null; NaN and infinity become null, a bool 1 or 0.

    Raises:
        TypeError: a value is neither a number, a string, a path nor None.
    """
    rank = {key: position for position, key in enumerate(_METRIC_ORDER)}
    keys = sorted(metrics, key=lambda key: (rank.get(key, len(rank)), key))
    flat = {key: _plain(key, metrics[key]) for key in keys}
    write_atomically(path, json.dumps(flat, indent=2, allow_nan=False) + "\n")


def read_metrics(path: str | os.PathLike[str]) -> dict[str, MetricValue]:
    """Read what `write_metrics` wrote.

    Raises:
        UserError: the file is missing, unreadable or not a flat JSON object.
    """
    try:
        metrics = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot read the metrics ({error.strerror}); give a finished run's folder") from None
    except ValueError:
        raise UserError(f"{path}: not a JSON file; run the evaluation again to write it anew") from None
    if not isinstance(metrics, dict) or any(isinstance(value, dict | list) for value in metrics.values()):
        raise UserError(f"{path}: not a flat JSON object; run the evaluation again to write it anew")
    return metrics


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One line of `scores.csv`: one test image, what it is and what was decided."""

    path: str  # relative to the data root
    label: str  # normal | abnormal
    defect: str  # name of the test sub-folder
    score: float  # raw anomaly score, higher = more abnormal
    threshold: float
    prediction: str  # abnormal iff score > threshold

    @classmethod
    def decide(cls, path: str, label: int, defect: str, score: float, threshold: float) -> "ScoreRow":
        """Make the row of an image with `label` 0 or 1, deciding abnormal iff score > threshold."""
        score, threshold = float(score), float(threshold)
        prediction = ABNORMAL if score > threshold else NORMAL
        return cls(path, ABNORMAL if label else NORMAL, defect, score, threshold, prediction)


SCORE_COLUMNS = tuple(field.name for field in fields(ScoreRow))

# A spreadsheet runs a cell that starts with one of these as a formula. Apostrophes in front of them count
# too, so that a name that really begins with '= comes back unchanged.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_ESCAPED = re.compile(r"'+[=+\-@\t\r]")


def escape_cell(cell: str) -> str:
    """Text that a spreadsheet shows and never runs."""
    return "'" + cell if _FORMULA.match(cell) else cell


def unescape_cell(cell: str) -> str:
    """The inverse of `escape_cell`."""
    return cell[1:] if _ESCAPED.match(cell) else cell


def write_scores(path: str | os.PathLike[str], rows: Iterable[ScoreRow]) -> None:
    """Write `scores.csv`; scores keep every digit, and text that a spreadsheet would run is escaped.

    Raises:
        ValueError: a label or a prediction is neither `normal` nor `abnormal`.
    """
    text = io.StringIO()
    # csv quotes only the terminator's own characters: with \r\n it quotes both, and a name may hold either.
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(SCORE_COLUMNS)
    for row in rows:
        if not {row.label, row.prediction} <= {NORMAL, ABNORMAL}:
            raise ValueError(f"{row.path!r}: label and prediction must be {NORMAL!r} or {ABNORMAL!r}")
        name, label, defect, score, threshold, prediction = astuple(row)
        cells = (
            escape_cell(name),
            label,
            escape_cell(defect),
            repr(float(score)),
            repr(float(threshold)),
            prediction,
        )
        writer.writerow(cells)
    write_atomically(path, text.getvalue())


def write_thresholds(path: str | os.PathLike[str], rows: Sequence[Mapping[str, float | None]]) -> None:
    """Write `thresholds.csv`, at least one row of equal keys; every digit is kept, None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(rows[0])
    writer.writerows(["" if value is None else repr(float(value)) for value in row.values()] for row in rows)
    write_atomically(path, text.getvalue())


def read_scores(path: str | os.PathLike[str]) -> list[ScoreRow]:
    """Read what `write_scores` wrote, also after a spreadsheet saved it with a byte-order mark.

    Raises:
        UserError: the file is missing, has other columns, or a line is malformed.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.reader(file)
            if tuple(next(reader, ())) != SCORE_COLUMNS:
                raise UserError(f"{path}: the columns must be {','.join(SCORE_COLUMNS)}; give a run's scores.csv")
            return [_row(path, reader.line_num, cells) for cells in reader if cells]
    except OSError as error:
        raise UserError(f"{path}: cannot read the scores ({error.strerror}); give a finished run's folder") from None
    except csv.Error as error:
        raise UserError(f"{path}: not a CSV file ({error}); give a run's scores.csv") from None


def _row(path: str | os.PathLike[str], line: int, cells: list[str]) -> ScoreRow:
    try:
        name, label, defect, score, threshold, prediction = cells
        if not {label, prediction} <= {NORMAL, ABNORMAL}:
            raise ValueError
        return ScoreRow(unescape_cell(name), label, unescape_cell(defect), float(score), float(threshold), prediction)
    except ValueError:
        message = f"{path}, line {line}: expected {','.join(SCORE_COLUMNS)}; mend the line or evaluate again"
        raise UserError(message) from None
