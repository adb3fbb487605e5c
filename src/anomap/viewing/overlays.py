"""Pictures of a prediction: an overlay for each image, and a contact sheet of the most abnormal ones."""

import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from anomap.errors import UserError
from anomap.runs.folder import write_atomically
from anomap.viewing import palette
from anomap.viewing.figures import shorten_name

_LONGEST = 255 - len(".png")  # bytes of a name that file systems take
_COLUMNS = 6


def overlay_path(folder: Path, name: str) -> Path:
    """Where the overlay of the image `name` (a relative posix path) goes: `folder/<name>.png`, never outside `folder`.

    The image's own extension stays, so that `a.png` and `a.jpg` do not meet. A name too long to take another extension is
    cut and told apart by a hash.

    Raises:
        UserError: a link leads out of `folder`.
    """
    parts = [_inside(part) for part in PurePosixPath(name).parts if part != "/"]
    path = folder.joinpath(*parts[:-1], f"{parts[-1]}.png")
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{path.parent}: a link that leads out of {folder}; remove it, or give another output=DIR")
    return path


def _inside(part: str) -> str:
    """A name for one folder or file, that goes neither up nor elsewhere."""
    part = "".join("_" if character in "/\\\0" else character for character in part)
    part = "_" * len(part) if part in (".", "..") else part
    data = os.fsencode(part)
    if len(data) <= _LONGEST:
        return part
    digest = hashlib.blake2b(data, digest_size=8).hexdigest()
    return f"{os.fsdecode(data[: _LONGEST - 1 - len(digest)])}-{digest}"


def write_png(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    """Write (H, W, 3) whole or not at all.

    Raises:
        UserError: the disk is full or the folder cannot be written to.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png", compress_level=1)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise UserError(f"{path}: the overlay cannot be written ({error.strerror}); give another output=DIR") from error


@dataclass(frozen=True)
class Tile:
    """One picture of a contact sheet.

    Attributes:
        pixels: (H, W, 3), the overlay.
        name: of the image.
        score: raw.
        label: what was decided, 0 normal, 1 abnormal.
    """

    pixels: npt.NDArray[np.uint8]
    name: str
    score: float
    label: int


def contact_sheet(tiles: Sequence[Tile], title: str) -> Figure:
    """Draw at least one tile, in lines of six, each under its name and score in the colour of its decision."""
    columns = min(_COLUMNS, len(tiles))
    lines = -(-len(tiles) // columns)
    height, width = tiles[0].pixels.shape[:2]
    # Tiles and their two lines of text in inches; constrained layout then finds the exact places.
    size = (max(6.0, 2.0 * columns + 0.2), lines * (2.0 * height / width + 0.45) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold", color=palette.INK, parse_math=False)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, tile in zip(grid.flat, tiles, strict=False):
        axes.imshow(tile.pixels, interpolation="nearest")
        text = f"{shorten_name(tile.name, 26)}\n{palette.CLASS_NAMES[tile.label]} · {tile.score:.4g}"
        axes.set_title(text, fontsize=8, color=palette.CLASS_COLOURS[tile.label], pad=3, parse_math=False)
    return figure
