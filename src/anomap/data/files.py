"""Folders and the image files in them, and how many threads read those."""

import os
from collections.abc import Sequence
from pathlib import Path

from anomap.errors import UserError

EXTENSIONS = frozenset({".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp", ".webp"})
KINDS = " ".join(sorted(extension[1:] for extension in EXTENSIONS))  # for messages


def is_image(name: str) -> bool:
    """Whether a file name, with or without its folder, is that of a visible image file."""
    # A Path would intern the name, in a table that never shrinks.
    return not os.path.basename(name).startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS


def prefix_of(folder: Path, root: Path) -> str:
    """What comes before the names of a folder's files, seen from the root: "" or "inner/folder/"."""
    inside = folder.relative_to(root).as_posix()
    return "" if inside == "." else f"{inside}/"


def find_files(folder: Path) -> tuple[list[str], list[str]]:
    """All visible files below a folder, and all links to folders, which are not followed; names relative to it, posix, sorted."""
    files: list[str] = []
    links: list[str] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        prefix = prefix_of(Path(parent), folder)
        files += [prefix + name for name in names if not name.startswith(".")]
        links += [prefix + name for name in folders if os.path.islink(os.path.join(parent, name))]
    return sorted(files), sorted(links)


def find_images(folder: Path) -> list[str]:
    """The image files among `find_files`."""
    return [name for name in find_files(folder)[0] if is_image(name)]


def existing_folder(key: str, value: str | os.PathLike[str] | None) -> Path:
    """The folder that the option `data.<key>` names; UserError when it is not set, not there, or not a folder."""
    if value is None or str(value) == "":
        raise UserError(f"data.{key} is not set: name the folder with data.{key}=DIR")
    folder = Path(value).expanduser()
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"data.{key}={value}: {folder.absolute()} {problem}; check the path")
    return folder


def subfolders(folder: Path) -> list[Path]:
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
