"""Scores kept beside the checkpoint that made them, so that another threshold costs no second scoring.

A file `scores-<key>.npz` (`cache_key`) is a `ScoredSet`. A file that cannot be read or written is as good as none: the
cache saves time and decides nothing.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anomap.detection.metrics import ConfidenceInterval
from anomap.detection.scoring import ImageScores
from anomap.evaluation.scored_set import ScoredSet
from anomap.runs.folder import write_atomically
from anomap.viewing.pixels import Picture

log = logging.getLogger(__name__)

_PICTURE = tuple(field.name for field in fields(Picture))  # each is an array of the file, if the pictures have it


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
    for name in _PICTURE:
        column = [getattr(picture, name) for picture in pictures]
        if column and column[0] is not None:  # all have it, or none
            arrays[name] = np.stack(column)
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
    interval = None if text["interval"] is None else ConfidenceInterval(*text["interval"])
    shown = _pictures(file) if pictures else {}
    test = ImageScores(scores, labels, peaks, text["pixel"], text["parts"])
    return ScoredSet(test, names, defects, text["seconds"], interval, shown)


def _pictures(file: Mapping[str, npt.NDArray[Any]]) -> dict[int, Picture]:
    columns = {name: file[name] for name in _PICTURE if name in file}
    chosen: list[int] = file["chosen"].tolist()
    return {index: Picture(**{name: column[k] for name, column in columns.items()}) for k, index in enumerate(chosen)}
