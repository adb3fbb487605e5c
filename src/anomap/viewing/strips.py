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
from anomap.viewing.grids import OUTCOMES, shorten_name
from anomap.viewing.pixels import Pixels

_LONGEST = 176  # pixels of a picture's longer side, whatever the size of the image
_NARROWEST = 280  # for the text
_GAP, _HEAD = 6, 62  # pixels between pictures, and for the text above them
_DPI = 100
_LETTER = 6.6  # pixels of the caption's average letter


@styled
def strip(row: ScoreRow, tiles: Mapping[str, Pixels]) -> Pixels:
    """Pictures (H, W, 3) of one size side by side, each under its name, all under file, score and decision -> (h, w, 3)."""
    pictures = {name: _scaled(pixels) for name, pixels in tiles.items()}
    height, width = next(iter(pictures.values())).shape[:2]
    full = (max(_NARROWEST, len(pictures) * (width + _GAP) + _GAP), _HEAD + height + _GAP)
    figure = Figure(figsize=(full[0] / _DPI, full[1] / _DPI), dpi=_DPI, facecolor="white")
    colour, right = palette.of(row.label), row.label == row.prediction

    def write(x: float, y: float, text: str, **style: object) -> None:
        figure.text(x / full[0], 1 - y / full[1], text, va="top", **style)  # pyright: ignore[reportArgumentType]

    name = shorten_name(row.path, math.floor((full[0] - 2 * _GAP) / _LETTER))
    write(_GAP, 5, name, color=palette.INK, fontsize=8)
    write(_GAP, 23, caption(row), color=colour, fontsize=8, fontweight="normal" if right else "bold")
    for number, (title, pixels) in enumerate(pictures.items()):
        left = _GAP + number * (width + _GAP)
        write(left + width / 2, 43, title, color=palette.MUTED, fontsize=8, ha="center")
        figure.figimage(pixels, left, _GAP, origin="upper")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


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
