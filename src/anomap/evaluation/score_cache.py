"""Scores kept beside the checkpoint that made them, so that another threshold costs no second scoring.

A file `scores-<key>.npz` is a `ScoredSet`. Its key is made of everything the scores depend on: the checkpoint's content,
how the data is read, the test files (name, label, size, time of change), and the code. A file that cannot be read or
written is as good as none: the cache saves time and decides nothing.
"""

import functools
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import fields
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import anomap
from anomap.data.samples import Sample, Scan
from anomap.detection.metrics import Interval
from anomap.detection.scoring import Scores
from anomap.evaluation.scored_set import ScoredSet
from anomap.runs.folder import write_atomically
from anomap.viewing.pixels import Picture

log = logging.getLogger(__name__)

_CODE = ("data", "detection", "networks", "objectives")  # packages that decide what a score is


def cache_path(checkpoint: str | os.PathLike[str], data: Mapping[str, Any], scan: Scan) -> Path:
    """Where the scores of this test set by this checkpoint are kept.

    Args:
        checkpoint: the file.
        data: the resolved `data` group that the test set is read with.
        scan: what its layout found.
    """
    path = Path(checkpoint).resolve()
    status = path.stat()
    code = (anomap.__version__, _code_digest(), _content_digest(path, status.st_size, status.st_mtime_ns))
    digest = hashlib.blake2b(digest_size=8)
    for part in chain((*code, dict(data)), (_identity(sample, scan) for sample in scan.test)):
        digest.update(json.dumps(part, sort_keys=True, default=str).encode() + b"\n")
    return path.with_name(f"scores-{digest.hexdigest()}.npz")


def save(path: Path, scored: ScoredSet) -> None:
    """Write whole or not at all; a folder that cannot be written to is a line in the log."""
    chosen = sorted(scored.pictures)
    pictures = [scored.pictures[index] for index in chosen]
    text = {
        "names": list(scored.names),
        "defects": list(scored.defects),
        "seconds": scored.seconds,
        "interval": scored.interval,
        "pixel": scored.test.pixel,
        "parts": scored.test.parts,
    }
    arrays: dict[str, npt.NDArray[Any]] = {
        "text": np.frombuffer(json.dumps(text).encode(), np.uint8),
        "scores": scored.test.scores,
        "labels": scored.test.labels,
        "map_peaks": scored.test.map_peaks,
        "chosen": np.array(chosen, np.int64),
    }
    for field in fields(Picture):
        values = [getattr(picture, field.name) for picture in pictures]
        if values and all(value is not None for value in values):
            arrays[f"picture_{field.name}"] = np.stack(values)
    buffer = BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        log.info("%s: the scores are not kept for next time (%s)", path, error.strerror)


def load(path: Path, pictures: bool = True) -> ScoredSet | None:
    """Read what `save` wrote; None when there is no such file, or it is damaged, which the log says.

    Args:
        path: see `cache_path`.
        pictures: also read what is shown, nine tenths of the file.
    """
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            return _scored_set(file, pictures)
    except Exception as error:  # a damaged file may raise anything
        log.warning("%s: damaged scores are ignored (%s); scoring again", path, type(error).__name__)
        return None


def _scored_set(file: Mapping[str, npt.NDArray[Any]], pictures: bool) -> ScoredSet:
    """Raises ValueError when the parts do not belong together."""
    text = json.loads(file["text"].tobytes())
    scores, labels, peaks = file["scores"], file["labels"], file["map_peaks"]
    names, defects, count = text["names"], text["defects"], (len(text["names"]),)
    if not (scores.shape == labels.shape == peaks.shape == count == (len(defects),) and np.isfinite(scores).all()):
        raise ValueError("lengths differ, or a score is not finite")
    interval = None if text["interval"] is None else Interval(*text["interval"])
    shown = _pictures(file) if pictures else {}
    test = Scores(scores, labels, peaks, text["pixel"], text["parts"])
    return ScoredSet(test, names, defects, text["seconds"], interval, shown)


def _pictures(file: Mapping[str, npt.NDArray[Any]]) -> dict[int, Picture]:
    chosen: list[int] = file["chosen"].tolist()
    if not chosen:
        return {}
    columns = {field.name: file.get(f"picture_{field.name}") for field in fields(Picture)}
    kept = {name: column for name, column in columns.items() if column is not None}
    return {index: Picture(**{name: kept[name][row] for name in kept}) for row, index in enumerate(chosen)}


def _identity(sample: Sample, scan: Scan) -> list[Any]:
    """What changes when the sample does."""
    known: list[Any] = [sample.name, sample.label, sample.defect]
    if sample.path is None:
        assert scan.pixels is not None, "a layout whose samples have no path must supply pixels"
        return [*known, hashlib.blake2b(scan.pixels(sample).tobytes(), digest_size=8).hexdigest()]
    return [*known, _stamp(sample.path), None if sample.mask is None else _stamp(sample.mask)]


def _stamp(path: Path) -> list[int] | None:
    """Size and time of change; None for a file that is gone, which decoding reports."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


@functools.lru_cache(maxsize=4)
def _content_digest(path: Path, size: int, changed: int) -> str:
    """Hash of a file's content, made once in a sweep: `size` and `changed` (its time) tell one version from another."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


@functools.cache
def _code_digest() -> str:
    """Hash of the sources that decide what a score is."""
    root, digest = Path(anomap.__file__).parent, hashlib.blake2b()
    for path in sorted(path for package in _CODE for path in (root / package).rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()
