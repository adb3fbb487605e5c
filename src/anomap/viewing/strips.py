"""A strip of pictures of one image under a caption, fast enough to draw many of them in every epoch."""

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from anomap.runs.scores import ScoreRow
from anomap.viewing import palette
from anomap.viewing.figures import styled
from anomap.viewing.fonts import set_fonts
from anomap.viewing.grids import OUTCOMES, shorten_name
from anomap.viewing.pixels import Pixels

_LONGEST = 176  # pixels of a picture's longer side, whatever the size of the image
_COLUMNS = 3  # more would make the text too small to read on one of TensorBoard's cards
_GAP, _HEAD, _NAME = 6, 50, 22  # pixels between pictures, for the caption, for the name above a picture
_NARROWEST = 400  # pixels, for the caption
_DPI = 100
_LETTER = 9  # pixels of the caption's average letter


@styled
def strip(row: ScoreRow, tiles: Mapping[str, Pixels]) -> Pixels:
    """Pictures (H, W, 3) of one size, each under its name, in lines of three under file, score and decision -> (h, w, 3)."""
    pictures = {name: _scaled(pixels) for name, pixels in tiles.items()}
    height, width = next(iter(pictures.values())).shape[:2]
    lines, columns = math.ceil(len(pictures) / _COLUMNS), min(_COLUMNS, len(pictures))
    tall, wide = _HEAD + lines * (_NAME + height + _GAP), max(_NARROWEST, columns * (width + _GAP) + _GAP)
    figure = Figure(figsize=(wide / _DPI, tall / _DPI), dpi=_DPI, facecolor="white")

    def write(x: float, y: float, text: str, **style: object) -> None:
        figure.text(x / wide, 1 - y / tall, text, va="top", **style)  # pyright: ignore[reportArgumentType]

    weight = "normal" if row.label == row.prediction else "bold"
    write(_GAP, 6, shorten_name(row.path, (wide - 2 * _GAP) // _LETTER), color=palette.INK, fontsize=11)
    write(_GAP, 28, caption(row), color=palette.of(row.label), fontsize=11, fontweight=weight)
    corners = [
        (_HEAD + line * (_NAME + height + _GAP) + _NAME, _GAP + column * (width + _GAP))
        for line in range(lines)
        for column in range(_COLUMNS)
    ]
    for name, (top, left) in zip(pictures, corners, strict=False):
        write(left + width / 2, top - _NAME + 5, name, color=palette.MUTED, fontsize=10, ha="center")
    set_fonts(figure)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    for pixels, (top, left) in zip(pictures.values(), corners, strict=False):
        drawn[top : top + height, left : left + width] = pixels
    return drawn


def caption(row: ScoreRow) -> str:
    """Decision, score and threshold."""
    return f"{OUTCOMES[row.label, row.prediction]}: score {row.score:.4g}, threshold {row.threshold:.4g}"


def _scaled(pixels: Pixels) -> Pixels:
    """At the size of a strip, in a thin frame: a white map would be lost on white."""
    height, width = pixels.shape[:2]
    factor = _LONGEST / max(height, width)
    method = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.BOX
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(ImageOps.expand(Image.fromarray(pixels).resize(size, method), 1, palette.GRID))
