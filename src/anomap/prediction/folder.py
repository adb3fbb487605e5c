"""The folder of a prediction: whose results it holds, one process at a time, and what a prediction did there."""

import csv
import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomap.detection.detector import UNWATCHED, Detector
from anomap.detection.drift import Drift, DriftMonitor
from anomap.errors import UserError
from anomap.prediction.inputs import MARKER, Inputs
from anomap.prediction.table import PARQUET, PARTS, SCORES, as_text, read_statistics
from anomap.runs.folder import write_atomically
from anomap.runs.lock import alone
from anomap.runs.scores import escape_cell

UNREADABLE, DRIFT = "unreadable.csv", "drift.json"

log = logging.getLogger(__name__)


@dataclass
class PredictionSummary:
    """What a prediction did."""

    folder: Path
    scored: int = 0  # now
    abnormal: int = 0  # of these
    earlier: int = 0  # scored before
    gone: int = 0  # of these, files that are no longer there
    changed: int = 0  # scored before, and other files now: their old scores are dropped
    unreadable: int = 0  # files left out
    seconds: float = 0.0  # of reading, scoring and drawing
    stopped: int | None = None  # the signal that stopped it early; the files are valid, and the same command goes on
    sheet: Path | None = None  # the contact sheet, if one was drawn
    drift: Drift | None = None  # from calibration, of all images that are there; None: not known


@contextmanager
def claimed(folder: Path, checkpoint: Path, threshold: float, inputs: Inputs) -> Iterator[None]:
    """Have the folder to oneself; UserError if that cannot be, or it holds results of something else than these."""
    with checkpoint.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    made_by: dict[str, Any] = {"checkpoint": str(checkpoint.resolve()), "checkpoint_blake2b": digest}
    made_by |= {"threshold": threshold, "input": str(inputs.root.resolve())}
    _refuse_others(folder, made_by)  # before anything is written there
    with alone(folder, f"{folder}: another anomap-predict is writing there; wait, or give another output=DIR"):
        _refuse_others(folder, made_by)  # another one may have begun meanwhile
        write_atomically(folder / MARKER, json.dumps(made_by, indent=2) + "\n")
        (folder / UNREADABLE).unlink(missing_ok=True)  # these files are tried again
        yield


def _refuse_others(folder: Path, made_by: dict[str, Any]) -> None:
    marker = folder / MARKER
    if not marker.exists():
        for name in (SCORES, PARQUET, PARTS):
            if (folder / name).exists():
                raise UserError(
                    f"output={folder}: holds a {name} that anomap-predict did not write; give another output=DIR"
                )
        return
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
        named = {key: found[key] for key in made_by}
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError(f"{marker}: cannot be read, or is another program's; give another output=DIR") from None
    for key, name in (("checkpoint_blake2b", "checkpoint"), ("threshold", "threshold"), ("input", "input")):
        if named[key] != made_by[key]:
            raise UserError(
                f"output={folder}: holds scores of another {name} ({named[name]}); give that one to go on there, or "
                "another output=DIR"
            )


def watch(folder: Path, detector: Detector, inputs: Inputs, gone: int) -> Drift | None:
    """Compare all that is scored in the folder, and still there, with calibration; write `drift.json`, and say what changed.

    A detector that has kept nothing to compare with is a line in the log.
    """
    if detector.reference is None:
        (folder / DRIFT).unlink(missing_ok=True)
        log.warning("%s", UNWATCHED)
        return None
    monitor = DriftMonitor(detector.reference)
    for scores, statistics in read_statistics(folder, inputs.root if gone else None):
        monitor.observe(scores, statistics, detector.threshold)
    found = monitor.drift()
    write_atomically(folder / DRIFT, json.dumps(found.to_dict(), indent=2) + "\n")
    if found.changed:
        log.warning("%s", found.text)
    return found


def first_reason(path: Path) -> str:
    """Why the first file of an `unreadable.csv` was left out."""
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.DictReader(file))["reason"]


def list_unreadable(path: Path, failures: Iterable[tuple[str, str]]) -> None:
    """Add names and reasons to `unreadable.csv`, which is made with the first of them."""
    lines = [(escape_cell(as_text(name)), escape_cell(reason)) for name, reason in failures]
    if not lines:
        return
    with path.open("a", encoding="utf-8", newline="") as file:
        if file.seek(0, os.SEEK_END) == 0:
            lines.insert(0, ("path", "reason"))
        csv.writer(file, lineterminator="\r\n").writerows(lines)
