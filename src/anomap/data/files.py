"""Which files are images, and how many threads read them."""

import os
from collections.abc import Sequence
from pathlib import Path

EXTENSIONS = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".webp"})


def is_image(name: str) -> bool:
    """Whether a file name is that of a visible image file."""
    # not by a Path: that would intern the name, in a table that never shrinks
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS


def find_images(folder: Path) -> list[str]:
    """All image files below a folder, posix names relative to it, sorted; hidden files and hidden folders are left out.

    Links to files are followed, links to folders below `folder` are not (they may lead in circles).
    """
    found: list[str] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(parent).relative_to(folder).as_posix()
        prefix = "" if inside == "." else f"{inside}/"
        found += [prefix + name for name in names if is_image(name)]
    return sorted(found)


def visible_folders(folder: Path) -> list[Path]:
    """The sub-folders of a folder, sorted by name, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def worker_count() -> int:
    """Threads for reading and decoding: the cores this process may use, at least 2 and at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(2, cores))


def shorten(names: Sequence[str], count: int = 3) -> str:
    """The first few names, for a message of one line."""
    rest = len(names) - count
    return ", ".join(names[:count]) + (f" and {rest} more" if rest > 0 else "")
