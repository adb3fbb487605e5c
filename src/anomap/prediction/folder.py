"""What the engines of anomap-predict share: the folder of the results, and what a prediction did."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from anomap.errors import UserError
from anomap.prediction.inputs import MARKER, Inputs
from anomap.runs.folder import write_atomically

SCORES, PARQUET, UNREADABLE, SHARDS = "scores.csv", "scores.parquet", "unreadable.csv", "scores"
RESULTS = {"local": SCORES, "ray": SHARDS}  # engine -> where it keeps the scores


@dataclass(frozen=True)
class Outcome:
    """What a prediction did.

    Attributes:
        folder: where the files are.
        scored: images scored now.
        abnormal: of these, decided abnormal.
        earlier: images that were scored before.
        unreadable: files left out.
        seconds: of reading, scoring and drawing.
        stopped: the signal that stopped it before the end, if one did; the files are valid, and the same command goes on.
        sheet: the contact sheet, if one was drawn.
    """

    folder: Path
    scored: int = 0
    abnormal: int = 0
    earlier: int = 0
    unreadable: int = 0
    seconds: float = 0.0
    stopped: int | None = None
    sheet: Path | None = None

    def plus(self, scored: int, abnormal: int, unreadable: int) -> "Outcome":
        """With more images."""
        return replace(
            self,
            scored=self.scored + scored,
            abnormal=self.abnormal + abnormal,
            unreadable=self.unreadable + unreadable,
        )


def claim(folder: Path, checkpoint: Path, threshold: float, inputs: Inputs, engine: str) -> None:
    """Make the folder, or take up its results; what could not be read before is forgotten, because it is tried again.

    Raises:
        UserError: the folder holds results of another checkpoint, threshold, input or engine, or cannot be written to.
    """
    made_by = {
        "checkpoint": str(checkpoint.resolve()),
        "checkpoint_blake2b": _digest(checkpoint),
        "threshold": threshold,
        "input": str(inputs.root.resolve()),
    }
    marker = folder / MARKER
    if marker.exists():
        _check_made_by(marker, made_by)
        for other, kept in RESULTS.items():
            if other != engine and (folder / kept).exists():
                raise UserError(
                    f"output={folder}: holds scores of engine={other}; give that to go on there, or another output=DIR"
                )
    elif found := [kept for kept in RESULTS.values() if (folder / kept).exists()]:
        raise UserError(
            f"output={folder}: holds a {found[0]} that anomap-predict did not write; give another output=DIR"
        )
    else:
        try:
            write_atomically(marker, json.dumps(made_by, indent=2) + "\n")
        except OSError as error:
            raise UserError(
                f"output={folder}: cannot be written ({error.strerror}); give another output=DIR"
            ) from error
    (folder / UNREADABLE).unlink(missing_ok=True)  # these files are tried again


def _check_made_by(marker: Path, made_by: dict[str, Any]) -> None:
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
        named = {key: found[key] for key in made_by}
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError(f"{marker}: cannot be read, or is another program's; give another output=DIR") from None
    for key, name in (("checkpoint_blake2b", "checkpoint"), ("threshold", "threshold"), ("input", "input")):
        if named[key] != made_by[key]:
            raise UserError(
                f"output={marker.parent}: holds scores of another {name} ({named[name]}); give that one to go on there, or "
                "another output=DIR"
            )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
