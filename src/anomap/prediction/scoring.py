"""From names of files to rows of scores and drawn maps: the loop that both engines of anomap-predict share."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from anomap.data.decode import in_flight
from anomap.detection.detector import Detector, Images
from anomap.errors import UserError
from anomap.prediction.inputs import Inputs
from anomap.prediction.pictures import draw
from anomap.prediction.settings import Settings
from anomap.prediction.table import PredictionRow

Failures = list[tuple[str, str]]  # name and reason


def score_files(
    detector: Detector, inputs: Inputs, names: Sequence[str], folder: Path, settings: Settings
) -> Generator[tuple[list[PredictionRow], Failures], None, None]:
    """Score images batch by batch; memory does not grow with their number.

    Yields:
        Rows of a batch, whose overlays are drawn, and the files before its end that cannot be read.
    """
    with closing(_batches(detector, inputs, names, settings.batch_size)) as batches:
        for batch in batches:
            rows: list[PredictionRow] = []
            if batch.names:
                scores, maps = detector.score_batch(np.stack(batch.images))
                rows = [
                    PredictionRow.decide(name, score, detector.threshold)
                    for name, score in zip(batch.names, scores, strict=True)
                ]
                draw(
                    detector, rows, batch.images, maps, folder, settings.overlays
                )  # first: a row says that all is done
            yield rows, batch.failures


@dataclass(frozen=True)
class _Batch:
    """Images that belong together in one call of the model, and files between them that cannot be read."""

    names: list[str] = field(default_factory=list)
    images: list[Images] = field(default_factory=list)
    failures: Failures = field(default_factory=list)


def _batches(detector: Detector, inputs: Inputs, names: Sequence[str], size: int) -> Generator[_Batch, None, None]:
    """Read ahead on a few threads; only a few images beyond the batch are in memory."""
    batch = _Batch()
    with closing(in_flight(names, lambda name: detector.preprocessing.read(inputs.path(name)))) as read:
        for name, done in read:
            try:
                image = done.result()
            except UserError as error:
                batch.failures.append((name, _reason(error, inputs.path(name))))
            else:
                batch.names.append(name)
                batch.images.append(image)
            if size in (len(batch.images), len(batch.failures)):
                yield batch
                batch = _Batch()
    yield batch


def _reason(error: UserError, path: Path) -> str:
    """Why a file cannot be read, without its name and without advice for a training."""
    return str(error).removeprefix("cannot read image ").removeprefix(f"{path}").lstrip(": ").split("; mend or")[0]
