"""The scores of a prediction: Parquet files in `scores/`, each whole or not there, and two tables made of them at the end.

Whatever ends a prediction, the next one scores what no part holds. `scores.csv` and `scores.parquet` hold the same in one
file each, sorted by path. In all of them, bytes of a file name that are not UTF-8 are backslash escapes. The parts also
say of which state of a file a score is (once it has changed, the score is none of it), and what the image looked like.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anomap.errors import UserError
from anomap.runs.folder import replacing
from anomap.runs.scores import ABNORMAL, NORMAL, escape_cell, write_csv

if TYPE_CHECKING:
    import pyarrow as pa

SCORES, PARQUET, PARTS = "scores.csv", "scores.parquet", "scores"

_AT_A_TIME = 1024  # rows that are Python objects at once


@dataclass(frozen=True, slots=True)
class PredictionRow:
    """One line: an image, its score, and what was decided."""

    path: str  # relative to the input folder, posix
    score: float  # raw, higher = more abnormal
    threshold: float
    prediction: str  # abnormal iff score > threshold
    size: int | None = None  # of the file that was scored, in bytes; like the next one, only in the parts
    mtime_ns: int | None = None  # when it was last written
    statistics: tuple[float, ...] | None = None  # of the image, see `anomap.detection.drift`; only in the parts, too

    @classmethod
    def decide(
        cls,
        path: str,
        score: float,
        threshold: float,
        state: "State" = (None, None),
        statistics: Iterable[float] | None = None,
    ) -> "PredictionRow":
        """The row of an image, abnormal iff score > threshold."""
        score, threshold = float(score), float(threshold)
        known = None if statistics is None else tuple(map(float, statistics))
        return cls(path, score, threshold, ABNORMAL if score > threshold else NORMAL, *state, known)


Columns = npt.NDArray[np.float64]
State = tuple[int, int] | tuple[None, None]  # size and mtime_ns of a file; None: it is not there
PREDICTION_COLUMNS = tuple(field.name for field in fields(PredictionRow))[:4]


@dataclass
class Earlier:
    """What a folder holds before a prediction begins; names are as `as_text`."""

    names: set[str]  # whose scores count
    gone: int = 0  # of these, files that are no longer there
    changed: list[str] = field(default_factory=list)  # whose scores were dropped


def as_text(name: str) -> str:
    """A file name as the tables hold it: bytes that are not UTF-8 as backslash escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def as_name(text: str) -> str:
    """The inverse of `as_text`: the name by which the file can be opened."""
    return re.sub(r"\\udc([89a-f][0-9a-f])", lambda found: chr(0xDC00 + int(found[1], 16)), text)


def write_part(folder: Path, names: Sequence[str], rows: Sequence[PredictionRow]) -> None:
    """Write rows, if any, into a file in `folder/scores` called after the names asked for: asked twice, they are there once.

    UserError if the file cannot be written.
    """
    if not rows:
        return
    digest = hashlib.blake2b("\0".join(names).encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
    _write(folder / PARTS / f"part-{digest}.parquet", _table(rows))


def state_of(path: Path) -> State:
    """What a score is bound to."""
    try:
        found = path.stat()
    except OSError:
        return None, None
    return found.st_size, found.st_mtime_ns


def drop_changed(folder: Path, root: Path) -> Earlier:
    """Drop the scores of files below `root` that have changed since, and say what remains.

    Files that are gone keep theirs: a folder that is emptied each day keeps its record. UserError as of `read_rows`, or
    if a part cannot be written.
    """
    import pyarrow as pa

    earlier = Earlier(set())
    for path, part in _parts(folder):
        keep = []
        for name, *state in zip(*(part.column(key).to_pylist() for key in ("path", "size", "mtime_ns")), strict=True):
            now = state_of(root / as_name(name))
            earlier.gone += now[0] is None
            keep.append(now[0] is None or now == tuple(state))
            if keep[-1]:
                earlier.names.add(name)
            else:
                earlier.changed.append(name)
        if not any(keep):
            path.unlink()
        elif not all(keep):
            _write(path, part.filter(pa.array(keep)))
    return earlier


def read_rows(folder: Path) -> Iterator[PredictionRow]:
    """All scores in this folder, in no order. Raises UserError for a part that anomap-predict did not write."""
    return (row for _, part in _parts(folder) for row in _rows(part))


def read_statistics(folder: Path, root: Path | None = None) -> Iterator[tuple[Columns, Columns]]:
    """Scores (B,) and statistics (B, K) of all images in this folder, NaN where none are stored, part by part.

    With a `root`, only of files that are there. UserError as of `read_rows`.
    """
    for _, part in _parts(folder):
        kept = [root is None or (root / as_name(name)).exists() for name in part.column("path").to_pylist()]
        values = part.column("statistics").to_pylist()
        width = next((len(row) for row in values if row is not None), 0)
        table = np.array([[np.nan] * width if row is None else row for row in values], np.float64)
        yield part.column("score").to_numpy()[kept], table.reshape(len(kept), width)[kept]


def write_tables(folder: Path) -> None:
    """Make `scores.csv` and `scores.parquet` of the parts, each whole or not at all, in 100 bytes of memory for each image.

    UserError for a part that anomap-predict did not write, or if a table cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = (part.select(PREDICTION_COLUMNS) for _, part in _parts(folder))
    table = pa.concat_tables([_table([]).select(PREDICTION_COLUMNS), *parts]).sort_by("path")
    repeating: Any = ["threshold", "prediction"]  # names are all different: a dictionary of them would only take memory
    try:
        with replacing(folder / PARQUET) as file:
            pq.write_table(table, file, row_group_size=16 * _AT_A_TIME, use_dictionary=repeating)
        cells = ((escape_cell(row.path), repr(row.score), repr(row.threshold), row.prediction) for row in _rows(table))
        write_csv(folder / SCORES, chain([PREDICTION_COLUMNS], cells))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to ({error}); {PARTS}/*.parquet hold the same") from error


def _rows(table: "pa.Table") -> Iterator[PredictionRow]:
    for batch in table.to_batches(max_chunksize=_AT_A_TIME):
        yield from (PredictionRow(**row) for row in batch.to_pylist())


def _parts(folder: Path) -> Iterator[tuple[Path, "pa.Table"]]:
    """The files of `folder/scores`, one after the other. What versions before have not stored is null."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in sorted((folder / PARTS).glob("part-*.parquet")):
        try:
            part = pq.ParquetFile(path).read()
            for column in _schema():
                if column.name not in part.column_names and column.name not in PREDICTION_COLUMNS:
                    part = part.append_column(column.name, pa.nulls(part.num_rows, column.type))
            yield path, part.select(_schema().names).cast(_schema())
        except (OSError, KeyError, pa.ArrowException) as error:
            raise UserError(f"{path}: not written by anomap-predict; delete it: its images are scored again") from error


def _write(path: Path, table: "pa.Table") -> None:
    import pyarrow.parquet as pq

    try:
        with replacing(path) as file:
            pq.write_table(table, file)
    except OSError as error:
        reason, folder = error.strerror or error, path.parent.parent
        raise UserError(f"{path}: cannot be written ({reason}); make room and give output={folder} to go on") from error


def _table(rows: Sequence[PredictionRow]) -> "pa.Table":
    import pyarrow as pa

    return pa.Table.from_pylist([{**asdict(row), "path": as_text(row.path)} for row in rows], _schema())


def _schema() -> "pa.Schema":
    import pyarrow as pa

    kinds = (pa.string(), pa.float64(), pa.float64(), pa.string(), pa.int64(), pa.int64(), pa.list_(pa.float32()))
    return pa.schema(list(zip((field.name for field in fields(PredictionRow)), kinds, strict=True)))
