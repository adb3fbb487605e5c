"""Figures made of images: maps row by row, the worst mistakes, and the contact sheet of a prediction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle

from anomap.runs.scores import ABNORMAL, NORMAL, ScoreRow
from anomap.viewing import palette
from anomap.viewing.figures import message, new_figure, styled
from anomap.viewing.fonts import readable
from anomap.viewing.pixels import VIEWS, Picture, Pixels, Scale, above, coloured, heat, resized, views
from anomap.viewing.selection import worst_false_alarms, worst_misses

OUTCOMES = {
    (NORMAL, NORMAL): "passed",
    (NORMAL, ABNORMAL): "false alarm",
    (ABNORMAL, NORMAL): "missed",
    (ABNORMAL, ABNORMAL): "caught",
}  # by label and decision; the report has the same words
_INCH = 1.75  # width of a picture
_MARGIN = 0.12  # around a figure, in inches


@styled
def attention_map_grid(
    rows: Sequence[ScoreRow],
    pictures: Sequence[Picture],
    scale: Scale,
    threshold: float | None = None,
    title: str | None = None,
) -> Figure:
    """Draw one row per image, with score and decision: its `views` on one scale, at a pixel's threshold."""
    shown = [views(picture, scale, threshold) for picture in pictures]
    columns = [name for name in VIEWS if any(name in pixels for pixels in shown)]
    if not columns:
        figure = new_figure(6, 1)
        message(figure.add_subplot(frame_on=False, xticks=[], yticks=[]), "no test images")
        return figure
    height, width = shown[0]["image"].shape[:2]
    tall = _INCH * height / width
    figure = new_figure(_INCH * (len(columns) + 1), (tall + 0.06) * len(rows) + 0.7)
    if title is not None:
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    grid = _empty_grid(figure, len(rows) + 1, len(columns), height_ratios=[tall] * len(rows) + [0.09])
    for axes, row, pixels in zip(grid[:-1], rows, shown, strict=True):
        _write_row(axes[0], row)
        for place, column in zip(axes, columns, strict=True):
            if column in pixels:
                _show(place, pixels[column])
    for first, last, column in zip(grid[0], grid[-1], columns, strict=True):
        first.set_title(column, fontsize=10, loc="center", pad=5)
        if column in ("attention map", "anomaly map"):
            _draw_scale(last, column, scale, threshold)
    return _packed(figure)


def _write_row(axes: Axes, row: ScoreRow) -> None:
    """Name, score and decision to the left of a row's first picture."""
    style: dict[str, Any] = {"x": -0.06, "ha": "right", "fontsize": 8, "transform": axes.transAxes}
    colour, weight = palette.of(row.label), "normal" if row.label == row.prediction else "bold"
    axes.text(s="\n".join(_wrapped(row.path, 24, 3)), y=0.62, va="bottom", color=colour, **style)
    axes.text(s=f"score {row.score:.4g}", y=0.5, va="center", color=palette.INK, **style)
    axes.text(s=OUTCOMES[row.label, row.prediction], y=0.38, va="top", color=colour, fontweight=weight, **style)


def _draw_scale(axes: Axes, column: str, scale: Scale, threshold: float | None) -> None:
    """Below its column: what the colours of a map mean, hot to the right."""
    attention = column == "attention map"  # drawn as what it is not: 1 is normal, and hot is abnormal
    low, high = (0.0, 1.0) if attention else scale
    rising = np.linspace(0, 1, 256)[None]
    ramp = rising if attention else heat(rising, (0, 1))
    axes.set_axis_on()
    axes.imshow(coloured(ramp, palette.HEAT), extent=(low, high, 0, 1), aspect="auto")
    axes.tick_params(labelsize=7, length=2, left=False, labelleft=False)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xticks([low, high], ("1 normal", "0 abnormal") if attention else (f"{low:.3g}", f"{high:.3g}"))
    for text, side in zip(axes.get_xticklabels(), ("left", "right"), strict=True):
        text.set_horizontalalignment(side)
    if not attention and threshold is not None and low < threshold < high:
        axes.axvline(threshold, color=palette.CONTOUR, linewidth=2)
        below: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "top", "fontsize": 7}
        axes.annotate(f"line {threshold:.3g}", (threshold, 0), (0, -4), **below)


@styled
def worst_mistakes(
    rows: Sequence[ScoreRow], pictures: Sequence[Picture], scale: Scale, threshold: float | None = None, count: int = 6
) -> Figure:
    """Draw at most `count` misses of the lowest scores and false alarms of the highest, each image above its overlay.

    Of a large photograph the overlay stands above that of its zoom, whose place is framed.
    """
    kinds = (
        ("Worst misses: abnormal, decided normal", worst_misses(rows, count)),
        ("Worst false alarms: normal, decided abnormal", worst_false_alarms(rows, count)),
    )
    columns = max(3, *(len(chosen) for _, chosen in kinds))
    tall = [4.4 if chosen else 0.8 for _, chosen in kinds]
    figure = new_figure(1.9 * columns, sum(tall))
    subfigures: Any = figure.subfigures(2, 1, height_ratios=tall)
    for part, (title, chosen) in zip(subfigures, kinds, strict=True):
        part.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=12)
        grid = _empty_grid(part, 1, columns)[0]
        if not chosen:
            grid[0].text(0, 0.5, "none at this threshold", color=palette.MUTED, transform=grid[0].transAxes)
        for axes, index in zip(grid, chosen, strict=False):
            row, zoom, pixels = rows[index], pictures[index].zoom, views(pictures[index], scale, threshold)
            text = f"{shorten_name(row.path, 22)}\n{shorten_name(row.defect, 12)} · {row.score:.4g}"
            if zoom is None or zoom.place is None:
                _show(axes, above(pixels["image"], pixels["overlay"]), text, row.label)
                continue
            whole, piece = pixels["overlay"], views(zoom, scale, threshold)["overlay"]
            shape = len(piece) * whole.shape[1] // piece.shape[1], whole.shape[1]
            _show(axes, above(whole, resized(piece, shape)), text, row.label)
            top, left, bottom, right = zoom.place * np.tile(whole.shape[:2], 2)
            frame = Rectangle(
                (left, top), right - left, bottom - top, fill=False, edgecolor=palette.CONTOUR, linewidth=0.8
            )
            axes.add_patch(frame)
    return _packed(figure)


@dataclass(frozen=True)
class Tile:
    """One picture of a contact sheet."""

    pixels: Pixels  # (H, W, 3), what to show: the overlay, or the image `above` it
    name: str  # of the image
    score: float  # raw
    label: int  # what was decided, 0 normal, 1 abnormal


@styled
def contact_sheet(tiles: Sequence[Tile], title: str) -> Figure:
    """Draw at least one tile, in lines of six, each under its name and score in the colour of its decision."""
    columns = min(6, len(tiles))
    lines = -(-len(tiles) // columns)
    height, width = tiles[0].pixels.shape[:2]
    figure = new_figure(max(6.0, 2.0 * columns + 0.2), lines * (2.0 * height / width + 0.45) + 0.5)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    for axes, tile in zip(_empty_grid(figure, lines, columns).flat, tiles, strict=False):
        decision = palette.CLASS_NAMES[tile.label]
        _show(axes, tile.pixels, f"{shorten_name(tile.name, 26)}\n{decision} · {tile.score:.4g}", decision)
    return _packed(figure)


def shorten_name(name: str, length: int) -> str:
    """The end of a file name, `readable`, at most `length` characters."""
    printable = readable(name)
    return printable if len(printable) <= length else f"…{printable[1 - length :]}"


def _wrapped(name: str, length: int, lines: int) -> list[str]:
    """The end of a file name on at most so many lines, folder by folder where that fits."""
    rest, found = shorten_name(name, length * lines), []
    while rest:
        cut = len(rest) if len(rest) <= length else rest.rfind("/", 0, length) + 1 or length
        found.append(rest[:cut])
        rest = rest[cut:]
    return found


def _show(axes: Axes, pixels: Pixels, caption: str = "", label: str = NORMAL) -> None:
    """Draw pixels in a thin frame: without it a white attention map would be lost on white paper."""
    axes.set_axis_on()
    axes.imshow(pixels, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color=palette.GRID, linewidth=0.6)
    axes.set_title(caption, color=palette.of(label), fontsize=7.5, fontweight="normal", pad=3)


def _empty_grid(figure: Any, lines: int, columns: int, **options: Any) -> Any:
    """Axes (lines, columns) of which nothing is seen until `_show`."""
    grid = figure.subplots(lines, columns, squeeze=False, **options)
    for axes in grid.flat:
        axes.set_axis_off()
    return grid


def _packed(figure: Figure) -> Figure:
    """The figure, its pictures close to each other and nothing close to its edge."""
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    x, y = _MARGIN / figure.get_size_inches()
    engine.set(w_pad=0.04, h_pad=0.03, wspace=0.01, hspace=0.01, rect=(x, y, 1 - 2 * x, 1 - 2 * y))
    return figure
