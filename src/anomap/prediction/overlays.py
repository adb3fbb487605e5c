"""The overlay files of a prediction: names and writing."""

import hashlib
import io
import os
import re
from pathlib import Path, PurePosixPath

from PIL import Image

from anomap.data.files import EXTENSIONS
from anomap.errors import UserError
from anomap.runs.folder import write_atomically
from anomap.viewing.pixels import Pixels

_LONGEST = 255 - len(".png")  # bytes of a name that file systems take


def overlay_path(folder: Path, name: str) -> Path:
    """Where the overlay of the image `name` (a relative posix path) goes, never outside `folder`, no two in one place.

    A PNG keeps its name, any other image gets `.png` behind it: `a.png` and `a.jpg` must not meet, and neither must
    `a.jpg.png` and `a.jpg`. A name that is too long or cannot be kept is changed and gets a hash. Raises UserError if a link
    leads out of `folder`.
    """
    parts = [_inside(part) for part in PurePosixPath(name).parts if part != "/"]
    stem, extension = os.path.splitext(parts[-1])
    own = extension.lower() == ".png" and not stem.lower().endswith(tuple(EXTENSIONS))
    path = folder.joinpath(*parts[:-1], parts[-1] if own else f"{parts[-1]}.png")
    if not path.parent.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{path.parent}: a link that leads out of {folder}; remove it, or give another output=DIR")
    return path


def _inside(part: str) -> str:
    """A name for one folder or file, that goes neither up nor elsewhere."""
    if part in (".", ".."):
        return "_" * len(part)
    safe = re.sub(r"[/\\\0]", "_", part)
    if safe == part and len(os.fsencode(part)) <= _LONGEST:
        return part
    data, digest = os.fsencode(safe), hashlib.blake2b(os.fsencode(part), digest_size=8).hexdigest()
    return f"{os.fsdecode(data[: _LONGEST - 1 - len(digest)])}-{digest}"


def write_png(path: Path, pixels: Pixels) -> None:
    """Write (H, W, 3) whole or not at all; raises UserError if the disk or the folder does not take it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png", compress_level=1)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise UserError(f"{path}: the overlay cannot be written ({error.strerror}); give another output=DIR") from error
