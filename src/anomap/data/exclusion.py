"""`data.exclude`: images that a list names are left out of everything, and accounted for."""

import logging
import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from anomap.data.files import shorten
from anomap.data.samples import Layout, Scan
from anomap.errors import UserError
from anomap.runs.suspicious import called_suspicious

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exclusion:
    """What is listed: names of samples, or paths that are absolute or relative to `root`."""

    listed: tuple[str, ...] = ()
    source: str = "data.exclude"  # what people call the list
    root: str | os.PathLike[str] | None = None
    told: bool = False  # whether people were told before what of it is missing

    def apply(self, scan: Scan) -> Scan:
        """Without what is listed. UserError if all of a list names nothing; a warning if some of it does."""
        if not self.listed:
            return scan
        everything = [*scan.train, *scan.test]
        named, roots = {sample.name for sample in everything}, {sample.root for sample in everything} - {None}
        found = {line: {*self._names(line, roots)} & named for line in dict.fromkeys(self.listed)}
        missing = [line for line, names in found.items() if not names]
        if missing and not self.told:
            problem = f"data.exclude: {len(missing)} of {len(found)} lines of {self.source} name no image of the data"
            if len(missing) == len(found):
                raise UserError(
                    f"{problem} ({shorten(missing)}): give paths that are absolute or relative to data.root"
                )
            log.warning("%s, and exclude nothing: %s", problem, shorten(missing))
        out = set[str]().union(*found.values())
        train, test = ([sample for sample in part if sample.name not in out] for part in (scan.train, scan.test))
        return replace(scan, train=train, test=test, excluded=tuple(sorted(out)))

    def _names(self, line: str, roots: Collection[Path | None]) -> list[str]:
        """Names that samples below these roots would have, if the line meant them."""
        names = [os.path.normpath(line)]
        place = Path(os.path.expanduser(self.root or ""), os.path.expanduser(line)).absolute()
        real = Path(os.path.realpath(place.parent), place.name)  # the file itself may be a link
        for root in roots:
            if real.is_relative_to(above := os.path.realpath(str(root))):
                names.append(real.relative_to(above).as_posix())
        return names


NOTHING = Exclusion()


@dataclass(frozen=True)
class Excluding:
    """A layout that knows nothing of exclusions, without what is excluded."""

    layout: Layout
    exclusion: Exclusion

    def scan(self) -> Scan:
        """UserError: as of the layout, or nothing of what is listed is there."""
        found = self.exclusion.apply(self.layout.scan())
        if found.excluded:
            names = shorten(found.excluded)
            log.info("%d images excluded by %s: %s", len(found.excluded), self.exclusion.source, names)
        return found


def excluding(layout: Layout, exclusion: Exclusion) -> Layout:
    """The layout without what is excluded: itself where that is nothing."""
    return Excluding(layout, exclusion) if exclusion.listed else layout


def read_exclusion(value: object, root: str | os.PathLike[str] | None = None) -> Exclusion:
    """Of the option `data.exclude`: None, a file (one path a line, `#` comments; or `suspicious.csv`), or the list of names
    that `settle` made of one.

    UserError for a file that cannot be read.
    """
    if value is None:
        return NOTHING
    if isinstance(value, list | tuple):
        return Exclusion(tuple(map(str, value)), root=root, told=True)
    path = Path(os.path.expanduser(str(value)))
    try:
        text = path.read_text("utf-8-sig", "surrogateescape")
        listed = called_suspicious(text)
    except OSError as error:
        raise UserError(
            f"data.exclude={value}: cannot be read ({error.strerror}); give a text file with one path on each line"
        ) from None
    except ValueError as error:
        raise UserError(f"data.exclude={value}: {error}") from None
    if listed is None:
        lines = (line.strip() for line in text.splitlines())
        listed = [line for line in lines if line and not line.startswith("#")]
    if not listed:
        log.warning("data.exclude=%s: names no image, so nothing is excluded", value)
    return Exclusion(tuple(listed), str(value), root)
