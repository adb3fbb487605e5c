"""From names of files to rows of scores and drawn maps: the loop that the engines of anomap-predict share."""

import heapq
import sys
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from anomap.data.decode import in_flight
from anomap.detection.detector import Detector, Images
from anomap.errors import UserError
from anomap.prediction.inputs import CONTACT_SHEET, OVERLAYS, Inputs
from anomap.prediction.table import PredictionRow
from anomap.runs.scores import ABNORMAL

SHEET_IMAGES = 24

Failures = list[tuple[str, str]]  # name and reason


def scored(
    detector: Detector, inputs: Inputs, names: Sequence[str], folder: Path, overlays: str, batch_size: int
) -> Generator[tuple[list[PredictionRow], Failures], None, None]:
    """Score images batch by batch; memory does not grow with their number.

    Yields:
        Rows of a batch, whose overlays are drawn, and the files before its end that cannot be read.
    """
    with closing(_batches(detector, inputs, names, batch_size)) as batches:
        for batch in batches:
            rows: list[PredictionRow] = []
            if batch.names:
                scores, maps = detector.score_batch(np.stack(batch.images))
                rows = [
                    PredictionRow.decide(name, score, detector.threshold)
                    for name, score in zip(batch.names, scores, strict=True)
                ]
                draw(detector, rows, batch.images, maps, folder, overlays)  # first: a row says that all is done
            yield rows, batch.failures


@dataclass(frozen=True)
class _Batch:
    """Images that belong together in one call of the model, and files between them that cannot be read."""

    names: list[str]
    images: list[Images]
    failures: list[tuple[str, str]]


def _batches(detector: Detector, inputs: Inputs, names: Sequence[str], size: int) -> Generator[_Batch, None, None]:
    """Read ahead on a few threads; only a few images beyond the batch are in memory."""
    batch = _Batch([], [], [])
    with closing(in_flight(names, lambda name: detector.preprocessing.read(inputs.path(name)))) as read:
        for name, done in read:
            try:
                image = done.result()
            except UserError as error:
                batch.failures.append((name, _reason(error, inputs.path(name))))
            else:
                batch.names.append(name)
                batch.images.append(image)
            if size in (len(batch.images), len(batch.failures)):
                yield batch
                batch = _Batch([], [], [])
    yield batch


def _reason(error: UserError, path: Path) -> str:
    """Why a file cannot be read, without its name and without advice for a training."""
    return str(error).removeprefix("cannot read image ").removeprefix(f"{path}").lstrip(": ").split("; mend or")[0]


class _Speed(ProgressColumn):
    def render(self, task: Any) -> str:
        return f"{task.speed:.1f} images/s" if task.speed else ""


def progress() -> Progress:
    """A bar on standard error, where that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


# --- pictures; matplotlib is imported only if there is something to draw ---


def draw(
    detector: Detector, rows: Sequence[PredictionRow], images: Sequence[Images], maps: Any, folder: Path, overlays: str
) -> None:
    """Write the overlays that are asked for."""
    if overlays == "none":
        return
    for row, image, plane in zip(rows, images, maps, strict=True):
        if overlays == "all" or row.prediction == ABNORMAL:
            from anomap.viewing.overlays import overlay_path, write_png

            write_png(overlay_path(folder / OVERLAYS, row.path), _overlay(detector, image, plane))


def _overlay(detector: Detector, image: Images, plane: Any) -> Images:
    from anomap.viewing.figures import overlay

    return overlay(image, plane, detector.map_scale, detector.pixel_threshold)


def draw_sheet(
    detector: Detector, inputs: Inputs, folder: Path, rows: Callable[[], Iterable[PredictionRow]]
) -> Path | None:
    """The contact sheet of all that was ever scored in this folder: the few images on it are scored once more."""
    from anomap.viewing.figures import save_figure
    from anomap.viewing.overlays import Tile, contact_sheet

    count = sum(1 for _ in rows())
    worst = heapq.nlargest(SHEET_IMAGES, rows(), key=lambda row: row.score)
    tiles: list[Tile] = []
    for row in worst:
        try:
            image = detector.preprocessing.read(inputs.path(row.path))
        except UserError:  # gone since
            continue
        _, maps = detector.score_batch(image[None])
        tiles.append(Tile(_overlay(detector, image, maps[0]), row.path, row.score, int(row.prediction == ABNORMAL)))
    if not tiles:
        return None
    path = folder / CONTACT_SHEET
    title = f"Highest {len(tiles)} of {count} scores · threshold {detector.threshold:.4g}"
    save_figure(contact_sheet(tiles, title), path)
    return path
