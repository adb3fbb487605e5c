"""Which images a prediction is about: one file, a folder, or a pattern."""

import fnmatch
import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from anomap.data.accounting import LeftOut
from anomap.data.files import EXTENSIONS, LINKED_FOLDER, is_image, left_out, scan_folder, walk
from anomap.errors import UserError

log = logging.getLogger(__name__)

# A folder that holds the first is one of anomap-predict's results, and the others there are its pictures, not input.
MARKER, OVERLAYS, CONTACT_SHEET = "predict.json", "overlays", "contact_sheet.png"
_MAGIC = re.compile(r"[*?[]")


class Names(Collection[str]):
    """Non-empty strings without NUL, such as file names, in little more memory than their letters: there may be millions."""

    def __init__(self, names: Iterable[str]) -> None:
        self._text = "\0".join(names)
        self._count = self._text.count("\0") + bool(self._text)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str]:
        return (found[0] for found in re.finditer(r"[^\0]+", self._text))

    def __contains__(self, name: object) -> bool:
        return any(name == found for found in self)


@dataclass(frozen=True)
class Inputs:
    """The images that were found."""

    root: Path
    names: Collection[str]  # posix paths below `root`, sorted, all different; at least one


def find_inputs(given: str | os.PathLike[str], recursive: bool = False) -> Inputs:
    """Find images; nothing is opened. UserError if there is no such file or folder, or no image in it.

    What is given is a file, whatever its extension; a folder, whose image files are taken (`recursive`: those in its
    sub-folders, too); or, if nothing has that name, a pattern: `*`, `?` and `[...]` stand for parts of a name, `**` for any
    number of folders. Hidden files and whatever else `anomap.data.files.left_out` names are left out, and what
    anomap-predict has drawn: one line of the log accounts for them. Links to files are followed; links to folders only
    where a pattern names them, since below `**` they may lead in circles.
    """
    path, kinds = Path(os.path.expanduser(given)), " ".join(sorted(EXTENSIONS))
    if path.is_file():
        return Inputs(path.parent, [path.name])
    if path.is_dir():
        root, segments = path, ("**", "*") if recursive else ("*",)
        hint = "" if recursive else ", or recursive=true for its sub-folders"
        empty = f"no image in this folder ({kinds}); give another{hint}"
    else:
        # a folder may be called `g [1]`
        there = next(len(above.parts) for above in path.parents if os.path.isdir(above) or not above.name)
        first = next((n for n, part in enumerate(path.parts) if n >= there and _MAGIC.search(part)), len(path.parts))
        root, segments = Path(*path.parts[:first]), path.parts[first:]
        if not segments:
            hint = "give an image, a folder, or a pattern like 'DIR/*.png'"
            raise UserError(f"input={given}: no such file or folder; {hint}")
        if not root.is_dir():
            raise UserError(f"input={given}: there is no folder {root}; give a pattern like 'DIR/*.png'")
        empty = f"no image fits this pattern ({kinds}); ** stands for any number of folders"
    left = LeftOut()
    segments = [part for place, part in enumerate(segments) if part != "**" or segments[place - 1 : place] != ("**",)]
    # two ** may find a name twice
    names = Names(name for name, _ in groupby(sorted(_fitting(root, "", segments, left))))
    told = f"; {left}" if left else ""
    if not names:
        raise UserError(f"input={given}: {empty}{told}")
    level = logging.INFO if left.harmless else logging.WARNING
    log.log(level, "%s: %d files: %d images%s", path.absolute(), len(names) + len(left), len(names), told)
    return Inputs(root, names)


def _fitting(root: Path, prefix: str, segments: Sequence[str], left: LeftOut, deep: bool = False) -> Iterator[str]:
    """Names of the image files below `root / prefix` that fit the pattern; the prefix, with its slash, is part of them.

    What fits but is no image is added to `left`. `deep`: the sub-folders are entered elsewhere.
    """
    head, rest = segments[0], segments[1:]
    if head == "**":
        yield from _fitting(root, prefix, rest or ("*",), left, deep=True)
        for entry in scan_folder(root / prefix):
            if not entry.is_dir(follow_symlinks=False):
                continue
            if reason := _left_out(entry, root / prefix, head):
                for name, _ in walk(root / prefix / entry.name, strict=False):
                    left.add(reason, f"{prefix}{entry.name}/{name}")
            else:
                yield from _fitting(root, f"{prefix}{entry.name}/", segments, left)
        return
    for entry in scan_folder(root / prefix):
        if not fnmatch.fnmatchcase(entry.name, head):
            continue
        name, reason = prefix + entry.name, _left_out(entry, root / prefix, head)
        if rest:
            if reason in (None, LINKED_FOLDER) and os.path.isdir(entry.path):
                yield from _fitting(root, f"{name}/", rest, left)
        elif entry.is_dir(follow_symlinks=False):
            if not deep:
                left.add(reason or "folders, not entered", f"{name}/")
        elif reason:
            left.add(reason, name)
        elif is_image(entry.name):
            yield name
        else:
            left.add_unused(name)


def _left_out(entry: os.DirEntry[str], folder: Path, pattern: str) -> str | None:
    """Why something is no input whatever the pattern, unless that begins with a dot; what anomap-predict drew is none."""
    if entry.name in (OVERLAYS, CONTACT_SHEET) and os.path.exists(folder / MARKER):  # False where it may not look
        return "drawn by anomap-predict"
    reason = left_out(entry)
    return None if reason == "hidden" and pattern.startswith(".") else reason
