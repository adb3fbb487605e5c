"""A scored test set: all that thresholds, tables, figures and the report need of it, without the model and the data."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from anomap.data.imageset import ImageSet
from anomap.data.reading import read_size
from anomap.detection.metrics import ConfidenceInterval, threshold_grid, threshold_table
from anomap.detection.pictures import as_pictures
from anomap.detection.scoring import ImageScores, ScoringModel
from anomap.runs.scores import ScoreRow
from anomap.viewing.pixels import Picture

_PART = 32  # images at a time


@dataclass(frozen=True)
class ScoredSet:
    """A test set of N images, scored; nothing in it depends on a threshold."""

    test: ImageScores
    names: Sequence[str]  # N paths, relative to the data root
    defects: Sequence[str]  # N names of test sub-folders
    seconds: float  # that the scoring took
    operations: int  # floating-point, of scoring one image
    interval: ConfidenceInterval | None  # of the image AUROC; None when a class is missing
    pictures: Mapping[int, Picture] = field(default_factory=dict)  # by index; empty when none will be shown
    pixel_note: str = ""  # which images the pixel metrics leave out, if any, and why

    def rows(self, threshold: float) -> Iterator[ScoreRow]:
        """The lines of `scores.csv` at this threshold."""
        columns = zip(self.names, self.test.labels, self.defects, self.test.scores, strict=True)
        return (ScoreRow.decide(name, int(label), defect, score, threshold) for name, label, defect, score in columns)

    def thresholds(self, chosen: float) -> list[dict[str, float | None]]:
        """The lines of `thresholds.csv`, the chosen threshold among them."""
        return threshold_table(self.test.scores, self.test.labels, threshold_grid(self.test.scores, chosen))


@torch.inference_mode()
def take_pictures(detector: ScoringModel, images: ImageSet, chosen: Sequence[int]) -> dict[int, Picture]:
    """The chosen images, by index, with whatever the method shows of them."""
    pictures: dict[int, Picture] = {}
    at_a_time = _PART if detector.tiling is None else 1
    for start in range(0, len(chosen), at_a_time):
        part = np.asarray(chosen[start : start + at_a_time])
        pixels = np.asarray(images.images[part])
        _, found = detector.score(detector.ready(torch.from_numpy(pixels)))
        drawn = as_pictures(found, pixels, map(images.mask_of, part.tolist()))
        for index, picture in zip(part.tolist(), drawn, strict=True):
            path = images.samples[index].path
            pictures[index] = replace(picture, size=path and np.array(read_size(path, sys.maxsize)))
    return pictures
