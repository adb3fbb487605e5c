"""Figures made of images: maps row by row, the worst mistakes, and the contact sheet of a prediction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from anomap.runs.scores import ABNORMAL, NORMAL, ScoreRow
from anomap.viewing import palette
from anomap.viewing.figures import STYLE, message, new_figure
from anomap.viewing.pixels import VIEWS, Picture, Pixels, Scale, above, views
from anomap.viewing.selection import worst_false_alarms, worst_misses

_OUTCOMES = {
    (NORMAL, NORMAL): "passed",
    (NORMAL, ABNORMAL): "false alarm",
    (ABNORMAL, NORMAL): "missed",
    (ABNORMAL, ABNORMAL): "caught",
}  # by label and decision; the report has the same words
_COLUMNS = 6  # of a contact sheet
_INCH = 1.75  # width of a picture


def attention_map_grid(
    rows: Sequence[ScoreRow], pictures: Sequence[Picture], scale: Scale, threshold: float | None = None
) -> Figure:
    """Draw one row per image, with score and decision: image, map, overlay, truth, restored image (see `views`).

    Args:
        rows: N lines of `scores.csv`.
        pictures: N.
        scale: the fixed range of the anomaly map's colours, the same in every row.
        threshold: of a pixel; the overlay outlines what is above it.
    """
    shown = [views(picture, scale, threshold) for picture in pictures]
    columns = [name for name in VIEWS if any(name in pixels for pixels in shown)]
    with matplotlib.rc_context(STYLE):
        if not columns:
            figure = new_figure(6, 1)
            message(figure.add_subplot(frame_on=False, xticks=[], yticks=[]), "no test images")
            return figure
        height, width = shown[0]["image"].shape[:2]
        tall = _INCH * height / width
        figure = new_figure(_INCH * (len(columns) + 1), (tall + 0.06) * len(rows) + 0.7)
        grid = figure.subplots(len(rows) + 1, len(columns), squeeze=False, height_ratios=[tall] * len(rows) + [0.09])
        for axes, row, pixels in zip(grid[:-1], rows, shown, strict=True):
            for place, column in zip(axes, columns, strict=True):
                _show(place, pixels.get(column))
            _write_row(axes[0], row)
        for place, column in zip(grid[0], columns, strict=True):
            place.set_title(column, fontsize=10, loc="center", pad=5)
        for place, column in zip(grid[-1], columns, strict=True):
            _draw_scale(place, column, scale, threshold)
        _pack(figure)
    return figure


def _write_row(axes: Axes, row: ScoreRow) -> None:
    """Name, score and decision to the left of a row's first picture."""
    style: dict[str, Any] = {"x": -0.06, "ha": "right", "fontsize": 8, "transform": axes.transAxes}
    colour, wrong = palette.of(row.label), row.label != row.prediction
    axes.text(s="\n".join(_wrapped(row.path, 24, 3)), y=0.62, va="bottom", color=colour, **style)
    axes.text(s=f"score {row.score:.4g}", y=0.5, va="center", color=palette.INK, **style)
    outcome = _OUTCOMES[row.label, row.prediction]
    axes.text(s=outcome, y=0.38, va="top", color=colour, fontweight="bold" if wrong else "normal", **style)


def _draw_scale(axes: Axes, column: str, scale: Scale, threshold: float | None) -> None:
    """Below its column: what the colours of a map or an overlay mean."""
    if column not in ("attention map", "anomaly map", "overlay"):
        axes.set_axis_off()
        return
    low, high = (0.0, 1.0) if column == "attention map" else scale
    pixels = views(_ramp(low, high, column), scale)[column]
    axes.imshow(pixels, extent=(low, high, 0, 1), aspect="auto")
    axes.set(yticks=[])
    axes.tick_params(labelsize=7, length=2)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    ends = ("0 abnormal", "1 normal") if column == "attention map" else (f"{low:.3g}", f"{high:.3g}")
    axes.set_xticks([low, high], ends)
    for text, side in zip(axes.get_xticklabels(), ("left", "right"), strict=True):
        text.set_horizontalalignment(side)
    if column == "overlay" and threshold is not None and low < threshold < high:
        axes.axvline(threshold, color=palette.CONTOUR, linewidth=2)
        axes.annotate(
            f"{threshold:.3g}", (threshold, 0), (0, -4), textcoords="offset points", ha="center", va="top", fontsize=7
        )


def _ramp(low: float, high: float, column: str) -> Picture:
    """A picture whose map rises from left to right, over grey."""
    rising = np.linspace(low, high, 256)[None]
    attention = rising if column == "attention map" else None
    return Picture(np.full((1, 1, 256), 150, np.uint8), rising, attention_map=attention)


def worst_mistakes(
    rows: Sequence[ScoreRow],
    pictures: Sequence[Picture],
    scale: Scale,
    threshold: float | None = None,
    count: int = 6,
) -> Figure:
    """Draw the misses with the lowest scores and the false alarms with the highest, each image above its overlay.

    Args:
        rows: N lines of `scores.csv`.
        pictures: N.
        scale: the fixed range of the anomaly map's colours.
        threshold: of a pixel; the overlay outlines what is above it.
        count: how many of each kind at most.
    """
    kinds = (
        ("Worst misses: abnormal, decided normal", worst_misses(rows, count)),
        ("Worst false alarms: normal, decided abnormal", worst_false_alarms(rows, count)),
    )
    columns = max(3, *(len(chosen) for _, chosen in kinds))
    tall = [4.4 if chosen else 0.8 for _, chosen in kinds]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(1.9 * columns, sum(tall))
        subfigures: Any = figure.subfigures(2, 1, height_ratios=tall)
        for part, (title, chosen) in zip(subfigures, kinds, strict=True):
            part.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=12)
            grid = part.subplots(1, columns, squeeze=False)[0]
            for axes in grid:
                axes.set_axis_off()
            if not chosen:
                grid[0].text(0, 0.5, "none at this threshold", color=palette.MUTED, transform=grid[0].transAxes)
            for axes, index in zip(grid, chosen, strict=False):
                row, pixels = rows[index], views(pictures[index], scale, threshold)
                _show(axes, above(pixels["image"], pixels["overlay"]))
                text = f"{shorten_name(row.path, 22)}\n{shorten_name(row.defect, 12)} · {row.score:.4g}"
                _caption(axes, text, row.label)
        _pack(figure)
    return figure


@dataclass(frozen=True)
class Tile:
    """One picture of a contact sheet.

    Attributes:
        pixels: (H, W, 3), what to show: the overlay, or the image `above` it.
        name: of the image.
        score: raw.
        label: what was decided, 0 normal, 1 abnormal.
    """

    pixels: Pixels
    name: str
    score: float
    label: int


def contact_sheet(tiles: Sequence[Tile], title: str) -> Figure:
    """Draw at least one tile, in lines of six, each under its name and score in the colour of its decision."""
    columns = min(_COLUMNS, len(tiles))
    lines = -(-len(tiles) // columns)
    height, width = tiles[0].pixels.shape[:2]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(max(6.0, 2.0 * columns + 0.2), lines * (2.0 * height / width + 0.45) + 0.5)
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, tile in zip(grid.flat, tiles, strict=False):
            decision = palette.CLASS_NAMES[tile.label]
            _show(axes, tile.pixels)
            _caption(axes, f"{shorten_name(tile.name, 26)}\n{decision} · {tile.score:.4g}", decision)
        _pack(figure)
    return figure


def shorten_name(name: str, length: int) -> str:
    """The end of a file name, printable, at most `length` characters."""
    printable = "".join(character if character.isprintable() else "?" for character in name)
    return printable if len(printable) <= length else f"…{printable[1 - length :]}"


def _wrapped(name: str, length: int, lines: int) -> list[str]:
    """The end of a file name on at most so many lines, folder by folder where that fits."""
    rest, found = shorten_name(name, length * lines), []
    while rest:
        cut = len(rest) if len(rest) <= length else rest.rfind("/", 0, length) + 1 or length
        found.append(rest[:cut])
        rest = rest[cut:]
    return found


def _caption(axes: Axes, text: str, label: str) -> None:
    axes.set_title(text, color=palette.of(label), fontsize=7.5, fontweight="normal", pad=3)


def _show(axes: Axes, pixels: Pixels | None) -> None:
    """Draw pixels, if any, in a thin frame: without it a white attention map would be lost on white paper."""
    axes.axison = pixels is not None
    if pixels is None:
        return
    axes.imshow(pixels, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=palette.GRID, linewidth=0.6)


def _pack(figure: Figure) -> None:
    """Place pictures close to each other."""
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(w_pad=0.04, h_pad=0.03, wspace=0.01, hspace=0.01)
