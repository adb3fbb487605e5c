"""A scored test set: all that thresholds, tables, figures and the report need of it, without the model and the data."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from anomap.data.imageset import ImageSet, to_float
from anomap.detection.metrics import Interval
from anomap.detection.scoring import Scores, ScoringModel
from anomap.runs.folder import ScoreRow

_PART = 32  # images at a time


@dataclass(frozen=True)
class Picture:
    """One test image as people see it.

    Attributes:
        image: uint8 (C, H, W).
        anomaly_map: float32 (1, H, W).
        mask: uint8 (1, H, W), 1 = abnormal, or None.
    """

    image: npt.NDArray[np.uint8]
    anomaly_map: npt.NDArray[np.float32]
    mask: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class ScoredSet:
    """A test set of N images, scored; nothing in it depends on a threshold.

    Attributes:
        test: the scores.
        names: N paths, relative to the data root.
        defects: N names of test sub-folders.
        seconds: that the scoring took.
        interval: confidence interval of the image AUROC, None when a class is missing.
        pictures: index -> what may have to be shown; empty when nothing will be.
    """

    test: Scores
    names: Sequence[str]
    defects: Sequence[str]
    seconds: float
    interval: Interval | None
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
    """Images, anomaly maps and masks of the chosen ones."""
    pictures: dict[int, Picture] = {}
    device = device_of(detector)
    for start in range(0, len(chosen), _PART):
        part = list(chosen[start : start + _PART])
        pixels = np.asarray(images.images[np.asarray(part)])
        maps = detector.score(to_float(torch.from_numpy(pixels).to(device)))[1].anomaly_map.float().cpu().numpy()
        for index, image, anomaly_map in zip(part, pixels, maps, strict=True):
            pictures[index] = Picture(image, anomaly_map, None if images.masks is None else images.masks[index])
    return pictures
