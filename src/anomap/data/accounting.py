"""One line of the log that accounts for every file of a folder: used, or left out and why."""

import logging
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from anomap.data.files import LINKED_FOLDER, is_image, prefix_of, shorten, walk

log = logging.getLogger(__name__)

_SHOWN = 3  # names of a reason


EXCLUDED = "excluded by"
_OUTSIDE = "images outside the class folders"
_HARMLESS = ("hidden", "of the operating system", "without an extension", "drawn by anomap-predict")


class LeftOut:
    """What is not used: how many of each reason, and the first few of their names."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}

    def add(self, reason: str, name: str) -> None:
        """`reason` reads well after a number: "hidden", "in @eaDir"."""
        self._counts[reason] = self._counts.get(reason, 0) + 1
        first = self._names.setdefault(reason, [])
        first.append(name)
        if len(first) > 8 * _SHOWN:  # bounded, and the same whatever the order of the files on the disk
            self._names[reason] = sorted(first)[:_SHOWN]

    def add_unused(self, name: str) -> None:
        """A file that was not left out for what it is, but is none of the used images."""
        kind = os.path.splitext(name)[1].lower()
        self.add(_OUTSIDE if is_image(name) else kind or "without an extension", name)

    @property
    def harmless(self) -> bool:
        """Whether none of it may have been meant as an image."""
        return all(reason.startswith((".", "in ", EXCLUDED)) or reason in _HARMLESS for reason in self._counts)

    def __len__(self) -> int:
        return sum(self._counts.values())

    def __str__(self) -> str:
        """Such as `left out 14: 12 in @eaDir (a, b, c and 9 more), 2 .txt (x, y)`."""
        parts = []
        for reason, count in sorted(self._counts.items(), key=lambda pair: (-pair[1], pair[0])):
            names = sorted(self._names[reason])[:_SHOWN]
            more = f" and {count - len(names)} more" if count > len(names) else ""
            parts.append(f"{count} {reason} ({shorten(names)}{more})")
        return f"left out {len(self)}: {', '.join(parts)}"


@contextmanager
def unaccounted() -> Iterator[None]:
    """Without that line, where a few of the files are borrowed."""
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def account(
    root: Path,
    folders: Collection[Path],
    used: Mapping[str, Collection[str]],
    excluded: Collection[str] = (),
    by: str = "",
) -> LeftOut:
    """Log how many files below `folders`, which lie below `root`, are used, as what (`used`: names), and what is left out.

    Links to folders count as entered where `folders` has them. `excluded` are names that the list `by` left out. Returns what
    is left out.
    """
    everything = {name for names in used.values() for name in names}
    excluded, left = {*excluded}, LeftOut()
    for name, reason in _found(root, folders):
        if name in everything:
            continue
        if name in excluded:
            reason = f"{EXCLUDED} {by}"
        elif reason is None and is_image(name) and name.startswith("ground_truth/"):
            reason = "masks of no abnormal image"
        if reason is None:
            left.add_unused(name)
        else:
            left.add(reason, name)
    roles = ", ".join(f"{len(names)} {role}" for role, names in used.items() if names)
    kinds = Counter(os.path.splitext(name)[1].lower() or "without an extension" for name in everything)
    by_kind = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    total = len(everything) + len(left)
    text = f"{root.absolute()}: {total} files: {len(everything)} used ({roles}; {by_kind})" + (
        f"; {left}" if left else ""
    )
    log.log(logging.INFO if left.harmless else logging.WARNING, "%s", text)
    return left


def _found(root: Path, folders: Collection[Path]) -> Iterator[tuple[str, str | None]]:
    """All files below those folders, each once, relative to the root, with the reason for which `walk` leaves it out."""
    outer = [folder for folder in folders if not any(parent in folders for parent in folder.parents)]
    while outer:
        folder = outer.pop()
        prefix = prefix_of(folder, root)
        for name, reason in walk(folder, strict=False):
            if reason == LINKED_FOLDER and root / (prefix + name) in folders:
                outer.append(root / (prefix + name))
            else:
                yield prefix + name, reason
