"""What a prediction draws: an overlay for each image that is asked for, and a contact sheet of the highest scores."""

import heapq
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anomap.data.reading import ImageFileError
from anomap.detection.detector import Detector
from anomap.errors import UserError
from anomap.prediction.inputs import CONTACT_SHEET, OVERLAYS, Inputs
from anomap.prediction.overlays import overlay_path, write_png
from anomap.prediction.table import PredictionRow, as_name, read_rows
from anomap.runs.scores import ABNORMAL

log = logging.getLogger(__name__)

SHEET_IMAGES = 24
_TILE = 400  # longest side of an image on the sheet

# viewing, and with it matplotlib, is imported only if there is something to draw


def draw(
    detector: Detector, root: Path, rows: Sequence[PredictionRow], maps: Sequence[Any], folder: Path, overlays: str
) -> None:
    """Write the overlays that are asked for, `all`, `anomalies` or `none`, each on its photograph below `root`.

    A photograph that was scored and is gone by now has none, and a line says so.
    """
    for row, plane in zip(rows, maps, strict=True):
        if overlays == "all" or (overlays == "anomalies" and row.prediction == ABNORMAL):
            from anomap.viewing.pixels import overlay

            try:
                photograph = detector.preprocessing.photograph(root / row.path)
            except ImageFileError as error:
                log.warning("no overlay: %s", error.reason)
                continue
            drawn = overlay(photograph, plane, detector.map_scale, detector.pixel_threshold)
            write_png(overlay_path(folder / OVERLAYS, row.path), drawn)


def draw_sheet(detector: Detector, inputs: Inputs, folder: Path, count: int) -> Path | None:
    """Draw the contact sheet of all `count` images that were ever scored in this folder; None if all of them are gone.

    The few images on it are scored once more.
    """
    from anomap.viewing.figures import save_figure
    from anomap.viewing.grids import Tile, contact_sheet
    from anomap.viewing.pixels import Picture, above, views

    tiles: list[Tile] = []
    for row in heapq.nlargest(SHEET_IMAGES, read_rows(folder), key=lambda row: row.score):
        path = inputs.root / as_name(row.path)
        try:
            image, photograph = detector.preprocessing.read(path), detector.preprocessing.photograph(path)
        except UserError:  # gone since
            continue
        _, maps = detector.score_batch(image[None])
        shown = views(Picture(photograph, maps[0]), detector.map_scale, detector.pixel_threshold, _TILE)
        pixels = above(shown["image"], shown["overlay"])
        tiles.append(Tile(pixels, row.path, row.score, int(row.prediction == ABNORMAL)))
    if not tiles:
        return None
    title = f"Highest {len(tiles)} of {count} scores · threshold {detector.threshold:.4g}"
    save_figure(contact_sheet(tiles, title), folder / CONTACT_SHEET)
    return folder / CONTACT_SHEET
