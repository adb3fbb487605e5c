"""What a prediction draws: an overlay for each image that is asked for, and a contact sheet of the highest scores."""

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anomap.detection.detector import Detector, Images
from anomap.errors import UserError
from anomap.prediction.inputs import CONTACT_SHEET, OVERLAYS, Inputs
from anomap.prediction.table import PredictionRow, as_name, read_rows
from anomap.runs.scores import ABNORMAL

SHEET_IMAGES = 24

# viewing, and with it matplotlib, is imported only if there is something to draw


def draw(
    detector: Detector, rows: Sequence[PredictionRow], images: Sequence[Images], maps: Any, folder: Path, overlays: str
) -> None:
    """Write the overlays that are asked for: `all`, `anomalies` or `none`."""
    if overlays == "none":
        return
    for row, image, plane in zip(rows, images, maps, strict=True):
        if overlays == "all" or row.prediction == ABNORMAL:
            from anomap.viewing.overlays import overlay_path, write_png

            write_png(overlay_path(folder / OVERLAYS, row.path), _overlay(detector, image, plane))


def draw_sheet(detector: Detector, inputs: Inputs, folder: Path, count: int) -> Path | None:
    """Draw the contact sheet of all `count` images ever scored here, the few on it anew; None if all of them are gone."""
    from anomap.viewing.figures import save_figure
    from anomap.viewing.grids import Tile, contact_sheet
    from anomap.viewing.pixels import above, to_rgb_image

    tiles: list[Tile] = []
    for row in heapq.nlargest(SHEET_IMAGES, read_rows(folder), key=lambda row: row.score):
        try:
            image = detector.preprocessing.read(inputs.root / as_name(row.path))
        except UserError:  # gone since
            continue
        _, maps = detector.score_batch(image[None])
        pixels = above(to_rgb_image(image), _overlay(detector, image, maps[0]))
        tiles.append(Tile(pixels, row.path, row.score, int(row.prediction == ABNORMAL)))
    if not tiles:
        return None
    title = f"Highest {len(tiles)} of {count} scores · threshold {detector.threshold:.4g}"
    save_figure(contact_sheet(tiles, title), folder / CONTACT_SHEET)
    return folder / CONTACT_SHEET


def _overlay(detector: Detector, image: Images, plane: Any) -> Images:
    from anomap.viewing.pixels import overlay

    return overlay(image, plane, detector.map_scale, detector.pixel_threshold)
