"""Scores kept beside the checkpoint that made them, so that another threshold costs no second scoring.

A file `scores-<key>.npz` (`cache_key`) is a `ScoredSet`. A file that cannot be read or written is as good as none: the
cache saves time and decides nothing.
"""

import json
import logging
from collections.abc import Mapping
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


def save(path: Path, scored: ScoredSet) -> None:
    """Write whole or not at all; a folder that cannot be written to is a line in the log."""
    test, chosen = scored.test, sorted(scored.pictures)
    known = {name: getattr(scored, name) for name in ("seconds", "operations", "interval", "pixel_note")}
    lists = {"names": list(scored.names), "defects": list(scored.defects)}
    text = json.dumps({**known, **lists, "pixel": test.pixel, "parts": test.parts})
    arrays = {"scores": test.scores, "labels": test.labels, "map_peaks": test.map_peaks}
    arrays["statistics"] = test.statistics
    arrays |= {"text": np.frombuffer(text.encode(), np.uint8), "chosen": np.array(chosen, np.int64)}
    for index in chosen:  # photographs may differ in size
        arrays |= scored.pictures[index].arrays(f"{index}/")
    buffer = BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        log.info("%s: the scores are not kept for next time (%s)", path, error.strerror)


def load(path: Path, pictures: bool = True) -> ScoredSet | None:
    """Read what `save` wrote, nine tenths of it only for `pictures`; None when it is not there, or damaged (in the log)."""
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
    names, defects, interval = text["names"], text["defects"], text["interval"]
    test = ImageScores(file["scores"], file["labels"], file["map_peaks"], text["pixel"], text["parts"])
    test.statistics = file["statistics"]
    shapes = {test.scores.shape, test.labels.shape, test.map_peaks.shape, (len(names),), (len(defects),)}
    if len(shapes) > 1 or not np.isfinite(test.scores).all():
        raise ValueError("lengths differ, or a score is not finite")
    held: dict[int, dict[str, Any]] = {index: {} for index in file["chosen"].tolist() if pictures}
    for key in file:
        index, _, name = key.partition("/")
        if name and pictures:
            held[int(index)][name] = file[key]
    shown = {index: Picture.of(arrays) for index, arrays in held.items()}
    interval = interval and ConfidenceInterval(*interval)
    return ScoredSet(test, names, defects, text["seconds"], text["operations"], interval, shown, text["pixel_note"])
