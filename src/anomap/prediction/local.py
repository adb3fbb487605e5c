"""anomap-predict engine=local: one process."""

import time
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

from anomap.detection.detector import Detector
from anomap.prediction.inputs import Inputs
from anomap.prediction.scoring import Failures, score_files
from anomap.prediction.settings import Settings
from anomap.prediction.table import PredictionRow, write_part
from anomap.runs.scores import ABNORMAL

PART_SECONDS = 5.0  # of work that a killed process loses at most
PART_ROWS = 2000


def score(
    detector: Detector, inputs: Inputs, names: Sequence[str], folder: Path, settings: Settings
) -> Generator[tuple[int, int, Failures], None, None]:
    """Score images, and write a part of the scores every few seconds; the last one however it ends.

    Yields:
        After each batch: images scored, how many of them are abnormal, and the files that cannot be read.

    Raises:
        UserError: the disk is full.
    """
    waiting: list[PredictionRow] = []
    began = time.monotonic()
    try:
        with closing(score_files(detector, inputs, names, folder, settings)) as batches:
            for rows, failures in batches:
                waiting += rows
                if len(waiting) >= PART_ROWS or time.monotonic() - began >= PART_SECONDS:
                    _write(folder, waiting)
                    waiting, began = [], time.monotonic()
                yield len(rows), sum(row.prediction == ABNORMAL for row in rows), failures
    finally:
        _write(folder, waiting)


def _write(folder: Path, rows: Sequence[PredictionRow]) -> None:
    if rows:
        write_part(folder, [row.path for row in rows], rows)
