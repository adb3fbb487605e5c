"""`scores.csv` of a prediction, which grows while images are scored, and `scores.parquet`, which is made of it.

Whatever ends the process, every complete line is valid: `mend` drops a torn last one, and the prediction goes on.
"""

import csv
import io
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from anomap.errors import UserError
from anomap.runs.folder import unescape_cell
from anomap.runs.scores import ABNORMAL, NORMAL, escape_cell

if TYPE_CHECKING:
    import pyarrow as pa

_ROW_GROUP = 1024  # rows of scores.parquet that are in memory at once


@dataclass(frozen=True, slots=True)
class PredictionRow:
    """One line: an image, its score, and what was decided."""

    path: str  # relative to the input folder, posix
    score: float  # raw anomaly score, higher = more abnormal
    threshold: float
    prediction: str  # abnormal iff score > threshold

    @classmethod
    def decide(cls, path: str, score: float, threshold: float) -> "PredictionRow":
        """Make the row of an image, deciding abnormal iff score > threshold."""
        score, threshold = float(score), float(threshold)
        return cls(path, score, threshold, ABNORMAL if score > threshold else NORMAL)

    def cells(self) -> tuple[str, ...]:
        """As they are written: every digit of the numbers, nothing that a spreadsheet would run."""
        return escape_cell(self.path), repr(self.score), repr(self.threshold), self.prediction


PREDICTION_COLUMNS = tuple(field.name for field in fields(PredictionRow))


class GrowingTable:
    """A CSV file that is appended to, and flushed with every `append`; a context manager.

    Args:
        path: made with a header if it is not there, or empty.
        columns: of the header.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._path = path
        try:
            self._file = path.open("ab")
        except OSError as error:
            raise UserError(f"{path}: cannot be written ({error.strerror}); give another output=DIR") from error
        if self._file.tell() == 0:
            self.append([columns])

    def append(self, rows: Iterable[Sequence[str]]) -> None:
        """Write rows of cells, as they are.

        Raises:
            UserError: the disk is full.
        """
        try:
            self._file.write(b"".join(map(_line, rows)))
            self._file.flush()
        except OSError as error:
            raise UserError(
                f"{self._path}: cannot be written ({error.strerror}); make room and give output={self._path.parent} to go on"
            ) from error

    def __enter__(self) -> "GrowingTable":
        """The table itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self._file.close()


def _line(cells: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().encode("utf-8", "surrogateescape")


def mend(path: Path) -> None:
    """Cut a torn last line off a `scores.csv`, if there is one.

    Raises:
        UserError: the file is none of anomap-predict's; it is left as it is.
    """
    header = _line(PREDICTION_COLUMNS)
    with path.open("rb") as file:
        begin = file.read(len(header))
        if not header.startswith(begin):
            raise _foreign(path)
        file.seek(0)
        complete = sum(map(len, _records(file)))
    os.truncate(path, complete)


def read_predictions(path: Path) -> Iterator[PredictionRow]:
    """The complete lines of a `scores.csv`, one after the other; a torn last one is passed over.

    Raises:
        UserError: other columns, or a complete line that is malformed.
    """
    with path.open("rb") as file:
        records = _records(file)
        if next(records, None) != _line(PREDICTION_COLUMNS):
            raise _foreign(path)
        for number, record in enumerate(records, 2):
            yield _row(path, number, record)


def _row(path: Path, number: int, record: bytes) -> PredictionRow:
    try:
        (cells,) = csv.reader(io.StringIO(record.decode("utf-8", "surrogateescape"), newline=""))
        name, score, threshold, prediction = cells
        if prediction not in (NORMAL, ABNORMAL):
            raise ValueError
        return PredictionRow(unescape_cell(name), float(score), float(threshold), prediction)
    except (ValueError, csv.Error):
        expected = ",".join(PREDICTION_COLUMNS)
        raise UserError(f"{path}, record {number}: expected {expected}; mend it or give another output=DIR") from None


def _records(file: BinaryIO) -> Iterator[bytes]:
    """Complete records: they end with a line break that is not inside quotes (a file name may hold one)."""
    record = b""
    for line in file:
        record += line
        if record.endswith(b"\r\n") and record.count(b'"') % 2 == 0:
            yield record
            record = b""


def _foreign(path: Path) -> UserError:
    return UserError(
        f"{path}: not as anomap-predict wrote it (its columns must be {','.join(PREDICTION_COLUMNS)}); give another output=DIR"
    )


def write_parquet(source: Path, target: Path) -> None:
    """Make `scores.parquet` of `scores.csv`, whole or not at all; memory does not grow with the rows.

    Raises:
        UserError: the source is malformed, or the disk is full.
    """
    import pyarrow.parquet as pq

    rows = read_predictions(source)
    temporary = target.parent / f".tmp-{secrets.token_hex(8)}"
    try:
        # names are all different: a dictionary of them would only take memory
        repeating: Any = ["threshold", "prediction"]
        with pq.ParquetWriter(temporary, parquet_table([]).schema, use_dictionary=repeating) as writer:
            while group := list(islice(rows, _ROW_GROUP)):
                writer.write_table(parquet_table(group))
        os.replace(temporary, target)
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error}); scores.csv holds the same") from error
    finally:
        temporary.unlink(missing_ok=True)


def parquet_table(rows: Sequence[PredictionRow]) -> "pa.Table":
    """Rows as an Arrow table; bytes of a file name that are no UTF-8, which Parquet cannot hold, as backslash escapes."""
    import pyarrow as pa

    schema = pa.schema(
        [("path", pa.string()), ("score", pa.float64()), ("threshold", pa.float64()), ("prediction", pa.string())]
    )
    columns = {
        "path": [row.path.encode("utf-8", "backslashreplace").decode() for row in rows],
        "score": [row.score for row in rows],
        "threshold": [row.threshold for row in rows],
        "prediction": [row.prediction for row in rows],
    }
    return pa.table(columns, schema)
