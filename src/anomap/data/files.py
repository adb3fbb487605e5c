"""Folders and the image files in them, what is left out and why, and how many threads read those."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from anomap.errors import UserError

# What Pillow reads and cameras, scanners or people write. `anomap.data.reading.FORMATS` has the decoders.
EXTENSIONS = frozenset(
    (
        *(
            ".png",
            ".apng",
            ".tif",
            ".tiff",
            ".jpg",
            ".jpeg",
            ".jpe",
            ".jfif",
            ".mpo",
            ".jp2",
            ".j2k",
            ".jpx",
            ".bmp",
            ".dib",
        ),
        *(".webp", ".avif", ".gif", ".tga", ".pbm", ".pgm", ".ppm", ".pnm", ".pfm"),
    )
)
KINDS = " ".join(sorted(extension[1:] for extension in EXTENSIONS))  # for messages

# Written by NAS boxes, desktops, file systems and archivers beside people's images: thumbnails, deleted files, old versions
_SYSTEM_FOLDERS = frozenset(
    (
        *(
            "@eadir",
            "@__thumb",
            ".@__thumb",
            ".appledouble",
            ".thumbnails",
            "#recycle",
            "@recycle",
            "$recycle.bin",
            "recycler",
        ),
        *("#snapshot", "@recently-snapshot", "lost+found", "__macosx", "system volume information"),
    )
)
_SYSTEM_FILES = frozenset(("thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store"))
LINKED_FOLDER = "links to folders"


def is_image(name: str) -> bool:
    """Whether a file name, with or without its folder, is that of a visible image file."""
    # A Path would intern the name, in a table that never shrinks.
    return not os.path.basename(name).startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS


def prefix_of(folder: Path, root: Path) -> str:
    """What comes before the names of a folder's files, seen from the root: "" or "inner/folder/"."""
    inside = folder.relative_to(root).as_posix()
    return "" if inside == "." else f"{inside}/"


def left_out(entry: os.DirEntry[str]) -> str | None:
    """Why what has this name and kind is never an image of the user's, for a message; None if it may be one."""
    name = entry.name.casefold()
    if name in _SYSTEM_FOLDERS:
        return f"in {entry.name}"
    if name in _SYSTEM_FILES or name.startswith("._"):
        return "of the operating system"
    if name.startswith("."):
        return "hidden"
    if not entry.is_symlink():
        return None if entry.is_dir() or entry.is_file() else "no regular files"  # to open a pipe would wait for ever
    if os.path.isdir(entry.path):
        return LINKED_FOLDER
    return "no regular files" if os.path.exists(entry.path) and not os.path.isfile(entry.path) else None


def walk(folder: Path, strict: bool = True) -> Iterator[tuple[str, str | None]]:
    """All files below a folder, relative to it, posix, in no order, each with the reason why it is left out, or None.

    Links to folders are not entered but named. UserError if `strict`: a folder that cannot be read, unless it would be left
    out anyway.
    """
    pending: list[tuple[str, str | None]] = [("", None)]
    while pending:
        prefix, inherited = pending.pop()
        try:
            for entry in scan_folder(folder / prefix):
                reason = inherited or left_out(entry)
                if entry.is_dir(follow_symlinks=False):
                    pending.append((f"{prefix}{entry.name}/", reason))
                else:
                    yield prefix + entry.name, reason
        except UserError:
            if strict and inherited is None:
                raise
            yield prefix.rstrip("/"), inherited or "folders that cannot be read"


def scan_folder(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What lies in a folder; UserError if it cannot be read."""
    try:
        with os.scandir(folder) as found:
            yield from found
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{folder}: this folder cannot be read ({reason}), so its images would be missing; allow it, or move it away"
        ) from error


def find_images(folder: Path) -> list[str]:
    """All image files below a folder that are not left out; names relative to it, posix, sorted. UserError as of `walk`."""
    return sorted(name for name, reason in walk(folder) if reason is None and is_image(name))


def existing_folder(key: str, value: str | os.PathLike[str] | None) -> Path:
    """The folder that the option `data.<key>` names; UserError when it is not set, not there, or not a folder."""
    if value is None or str(value) == "":
        raise UserError(f"data.{key} is not set: name the folder with data.{key}=DIR")
    folder = Path(os.path.expanduser(value))
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"data.{key}={value}: {folder.absolute()} {problem}; check the path")
    return folder


def subfolders(folder: Path) -> list[Path]:
    """The sub-folders of a folder, links too, sorted by name, without what is left out; UserError as of `scan_folder`."""
    found = (entry for entry in scan_folder(folder) if os.path.isdir(entry.path))
    return sorted(folder / entry.name for entry in found if left_out(entry) in (None, LINKED_FOLDER))


def worker_count() -> int:
    """Threads for reading and decoding: the cores this process may use, at least 2 and at most 8."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, max(2, cores))


def shorten(names: Sequence[str], count: int = 3) -> str:
    """The first few names, for a message of one line: what a terminal cannot show is escaped."""
    rest = len(names) - count
    return ", ".join(map(printable, names[:count])) + (f" and {rest} more" if rest > 0 else "")


def printable(name: str) -> str:
    """A file name without what breaks a line or cannot be encoded."""
    escaped = name.encode("utf-8", "backslashreplace").decode()
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in escaped)
