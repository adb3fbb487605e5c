"""Which images a prediction is about: one file, a folder, or a pattern."""

import fnmatch
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from anomap.data.files import EXTENSIONS, is_image
from anomap.errors import UserError

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
    number of folders. Hidden files and folders are left out, and what anomap-predict has drawn. Links to files are
    followed; links to folders only where a pattern names them, since below `**` they may lead in circles.
    """
    path, kinds = Path(given).expanduser(), " ".join(sorted(EXTENSIONS))
    if path.is_file():
        return Inputs(path.parent, [path.name])
    if path.is_dir():
        root, segments = path, ("**", "*") if recursive else ("*",)
        hint = "" if recursive else ", or recursive=true for its sub-folders"
        empty = f"no image in this folder ({kinds}); give another{hint}"
    else:
        first = next((number for number, part in enumerate(path.parts) if _MAGIC.search(part)), len(path.parts))
        root, segments = Path(*path.parts[:first]), path.parts[first:]
        if not segments:
            hint = "give an image, a folder, or a pattern like 'DIR/*.png'"
            raise UserError(f"input={given}: no such file or folder; {hint}")
        if not root.is_dir():
            raise UserError(f"input={given}: there is no folder {root}; give a pattern like 'DIR/*.png'")
        empty = f"no image fits this pattern ({kinds}); ** stands for any number of folders"
    # two ** may find a name twice
    names = Names(name for name, _ in groupby(sorted(_fitting(root, "", segments))))
    if not names:
        raise UserError(f"input={given}: {empty}")
    return Inputs(root, names)


def _fitting(root: Path, prefix: str, segments: Sequence[str]) -> Iterator[str]:
    """Names of the image files below `root / prefix` that fit the pattern; the prefix, with its slash, is part of them."""
    head, rest = segments[0], segments[1:]
    if head == "**":
        yield from _fitting(root, prefix, rest or ("*",))
        for entry in _visible(root / prefix, head):
            if entry.is_dir(follow_symlinks=False):
                yield from _fitting(root, f"{prefix}{entry.name}/", segments)
        return
    for entry in _visible(root / prefix, head):
        if not fnmatch.fnmatchcase(entry.name, head):
            continue
        if rest and entry.is_dir():
            yield from _fitting(root, f"{prefix}{entry.name}/", rest)
        elif not rest and is_image(entry.name) and entry.is_file():
            yield prefix + entry.name


def _visible(folder: Path, pattern: str) -> Iterator[os.DirEntry[str]]:
    """What lies in a folder, without what is hidden (unless the pattern begins with a dot) or drawn by anomap-predict."""
    drawn = {OVERLAYS, CONTACT_SHEET} if os.path.exists(folder / MARKER) else set()  # False where it may not look
    try:
        with os.scandir(folder) as found:
            for entry in found:
                if entry.name not in drawn and (not entry.name.startswith(".") or pattern.startswith(".")):
                    yield entry
    except OSError as error:
        raise UserError(f"{folder}: this folder cannot be read ({error.strerror}); give another input") from error
