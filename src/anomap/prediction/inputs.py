"""Which images a prediction is about: one file, a folder, or a pattern.

>>> list(find_inputs("parts", recursive=True).names)  # doctest: +SKIP
['a.png', 'line 2/b.tif']
"""

import fnmatch
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import overload

from anomap.data.files import EXTENSIONS, is_image
from anomap.errors import UserError

# A folder that holds the first is one of anomap-predict's results, and the others there are its pictures, not input.
MARKER, OVERLAYS, CONTACT_SHEET = "predict.json", "overlays", "contact_sheet.png"
_MAGIC = re.compile(r"[*?[]")


class Names(Sequence[str]):
    """Non-empty strings without NUL, such as file names, in little more memory than their letters take: there may be millions."""

    def __init__(self, names: Iterable[str]) -> None:
        self._text = "\0".join(names)
        starts = (found.end() for found in re.finditer("\0", self._text))
        self._starts = array("Q", chain((0,), starts) if self._text else ())

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        """A name, or some."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        start = self._starts[index]
        end = self._text.find("\0", start)
        return self._text[start:] if end < 0 else self._text[start:end]


@dataclass(frozen=True)
class Inputs:
    """The images that were found.

    Attributes:
        root: the folder that the names are relative to.
        names: posix paths below `root`, sorted, all different; at least one.
    """

    root: Path
    names: Sequence[str]

    def path(self, name: str) -> Path:
        """The file of a name."""
        return self.root / name


def find_inputs(given: str | os.PathLike[str], recursive: bool = False) -> Inputs:
    """Find images; nothing is opened.

    Hidden files and folders are left out, and so are the pictures that anomap-predict has drawn. Links to files are
    followed; links to folders only where a pattern names them, since below `**` they may lead in circles.

    Args:
        given: a file, whatever its extension; a folder, whose image files are taken; or a pattern of such files, in which
            `*`, `?` and `[...]` stand for parts of a name and `**` for any number of folders. What exists under the
            very name that is given is no pattern.
        recursive: of a folder, also the images in its sub-folders.

    Raises:
        UserError: there is no such file or folder, or no image in it.
    """
    path = Path(given).expanduser()
    if path.is_file():
        return Inputs(path.parent, [path.name])
    if path.is_dir():
        names = _below(path, ("**", "*") if recursive else ("*",))
        if not names:
            hint = "" if recursive else ", or recursive=true for its sub-folders"
            raise UserError(f"input={given}: no image in this folder ({_kinds()}); give another{hint}")
        return Inputs(path, names)
    root, segments = _split(path)
    if not segments:
        raise UserError(
            f"input={given}: no such file or folder; give an image, a folder, or a pattern like 'DIR/*.png'"
        )
    if not root.is_dir():
        raise UserError(f"input={given}: there is no folder {root}; give a pattern like 'DIR/*.png'")
    names = _below(root, segments)
    if not names:
        raise UserError(f"input={given}: no image fits this pattern ({_kinds()}); ** stands for any number of folders")
    return Inputs(root, names)


def _split(path: Path) -> tuple[Path, tuple[str, ...]]:
    """The folder before the first part with a wildcard, and the parts from there on."""
    parts = path.parts
    first = next((number for number, part in enumerate(parts) if _MAGIC.search(part)), len(parts))
    return Path(*parts[:first]), parts[first:]


def _below(root: Path, segments: Sequence[str]) -> Names:
    """Sorted names of the image files below `root` that fit the pattern; two `**` may find one twice."""
    return Names(name for name, _ in groupby(sorted(_fitting(root, "", segments))))


def _fitting(root: Path, prefix: str, segments: Sequence[str]) -> Iterator[str]:
    """Names, each after the prefix: that of the folder below `root` that is looked into, with its slash."""
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


def _kinds() -> str:
    return " ".join(sorted(EXTENSIONS))
