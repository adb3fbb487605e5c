"""A scored test set: all that thresholds, tables, figures and the report need of it, without the model and the data."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from anomap.data.imageset import ImageSet, to_float
from anomap.detection.metrics import ConfidenceInterval
from anomap.detection.scoring import ImageScores, ScoringModel
from anomap.runs.scores import ScoreRow
from anomap.viewing.pixels import Picture

_PART = 32  # images at a time


@dataclass(frozen=True)
class ScoredSet:
    """A test set of N images, scored; nothing in it depends on a threshold.

    Attributes:
        test: the scores.
        names: N paths, relative to the data root.
        defects: N names of test sub-folders.
        seconds: that the scoring took.
        interval: of the image AUROC, None when a class is missing.
        pictures: index -> what may have to be shown; empty when nothing will be.
    """

    test: ImageScores
    names: Sequence[str]
    defects: Sequence[str]
    seconds: float
    interval: ConfidenceInterval | None
    pictures: Mapping[int, Picture] = field(default_factory=dict)

    def rows(self, threshold: float) -> Iterator[ScoreRow]:
        """The lines of `scores.csv` at this threshold."""
        columns = zip(self.names, self.test.labels, self.defects, self.test.scores, strict=True)
        return (ScoreRow.decide(name, int(label), defect, score, threshold) for name, label, defect, score in columns)


def device_of(detector: ScoringModel) -> torch.device:
    """Where it computes."""
    return next(iter([*detector.parameters(), *detector.buffers()])).device


@torch.inference_mode()
def take_pictures(detector: ScoringModel, images: ImageSet, chosen: Sequence[int]) -> dict[int, Picture]:
    """The chosen images, by index, with whatever the method shows of them."""
    pictures: dict[int, Picture] = {}
    device = device_of(detector)
    for start in range(0, len(chosen), _PART):
        part = np.asarray(chosen[start : start + _PART])
        pixels = np.asarray(images.images[part])
        scored = detector.score(to_float(torch.from_numpy(pixels).to(device)))[1]
        restored = None if scored.reconstruction is None else (scored.reconstruction * 255).round().byte()
        columns = {
            "image": pixels,
            "anomaly_map": scored.anomaly_map.float().cpu().numpy(),
            "mask": None if images.masks is None else images.masks[part],
            "attention_map": None if scored.attention_map is None else scored.attention_map.float().cpu().numpy(),
            "restored": None if restored is None else restored.cpu().numpy(),
        }
        shown = {name: column for name, column in columns.items() if column is not None}
        for k, index in enumerate(part.tolist()):
            pictures[index] = Picture(**{name: column[k] for name, column in shown.items()})
    return pictures
