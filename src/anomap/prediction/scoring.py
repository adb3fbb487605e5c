"""From names of files to rows of scores and drawn maps: the loop of both engines, and engine=local, which is one process."""

import time
from collections.abc import Collection, Generator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from anomap.data.decode import ITEMS_AT_A_TIME, in_flight
from anomap.data.reading import ImageFileError
from anomap.detection.detector import Detector, Images
from anomap.errors import UserError
from anomap.prediction.inputs import Inputs
from anomap.prediction.pictures import draw
from anomap.prediction.settings import Settings
from anomap.prediction.table import PredictionRow, State, state_of, write_part
from anomap.runs.scores import ABNORMAL

PART_SECONDS = 5.0  # of work that a killed process loses at most
PART_ROWS = 2000

Failures = list[tuple[str, str]]  # name and reason


def score(
    detector: Detector, inputs: Inputs, names: Collection[str], folder: Path, settings: Settings
) -> Generator[tuple[int, int, Failures], None, None]:
    """Score images, and write a part of the scores every few seconds; the last one however it ends.

    Yields after each batch: images scored, how many of them are abnormal, and the files that cannot be read.
    """
    waiting: list[PredictionRow] = []
    began = time.monotonic()
    try:
        with closing(score_files(detector, inputs, names, folder, settings)) as batches:
            for rows, failures in batches:
                waiting += rows
                if len(waiting) >= PART_ROWS or time.monotonic() - began >= PART_SECONDS:
                    write_part(folder, [row.path for row in waiting], waiting)
                    waiting, began = [], time.monotonic()
                yield len(rows), sum(row.prediction == ABNORMAL for row in rows), failures
    finally:
        write_part(folder, [row.path for row in waiting], waiting)


def score_files(
    detector: Detector, inputs: Inputs, names: Collection[str], folder: Path, settings: Settings
) -> Generator[tuple[list[PredictionRow], Failures], None, None]:
    """Score images batch by batch, reading a few ahead on threads; memory does not grow with their number.

    Yields rows of a batch, whose overlays are drawn, and the files before its end that cannot be read.
    """
    batch: dict[str, tuple[State, Images, tuple[int, int]]] = {}
    failures: Failures = []

    def rows() -> list[PredictionRow]:
        if not batch:
            return []
        states, images, sizes = zip(*batch.values(), strict=True)
        scores, maps, statistics = detector.observe_batch(_stacked(images), sizes)
        decided = zip(batch, scores, states, statistics, strict=True)
        found = [PredictionRow.decide(name, score, detector.threshold, *rest) for name, score, *rest in decided]
        # before the row says that all is done
        draw(detector, inputs.root, found, list(maps), folder, settings.overlays)
        return found

    # a photograph takes longer to score by its tiles than to read: one ahead is enough, and memory stays small
    at_a_time, workers, batch_size = (1, 1, 1) if detector.tiles else (ITEMS_AT_A_TIME, None, settings.batch_size)
    work = partial(_read, detector, inputs.root)
    with closing(in_flight(names, work, UserError, at_a_time, workers)) as read:
        for name, image in read:
            if isinstance(image, UserError):
                failures.append((name, _reason(image, inputs.root / name)))
            else:
                batch[name] = image
            if batch_size in (len(batch), len(failures)):
                yield rows(), failures
                batch, failures = {}, []
    yield rows(), failures


def _read(detector: Detector, root: Path, name: str) -> tuple[State, Images, tuple[int, int]]:
    state = state_of(root / name)  # before it is read: a file that changes meanwhile is scored again next time
    return state, *detector.preprocessing.read_sized(root / name)


def _reason(error: UserError, path: Path) -> str:
    """Why a file cannot be read, without its name and without advice for a training."""
    reason = error.reason if isinstance(error, ImageFileError) else str(error)
    return reason.removeprefix("cannot read image ").removeprefix(f"{path}").lstrip(": ")


def _stacked(images: Sequence[Images]) -> Images:
    """(B, C, H, W); a photograph that comes alone is not copied."""
    return images[0][None] if len(images) == 1 else np.stack(images)
