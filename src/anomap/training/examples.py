"""The example images of TensorBoard: the same in every epoch, each a captioned strip of what the method sees in it."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anomap.data.anomaly_data import AnomalyData
from anomap.data.imageset import to_float
from anomap.data.samples import Sample
from anomap.detection.pictures import as_pictures, to_bytes
from anomap.detection.scoring import ScoringModel
from anomap.runs.scores import ScoreRow
from anomap.viewing.grids import shorten_name
from anomap.viewing.pixels import Picture, Pixels, to_rgb_image, views
from anomap.viewing.strips import strip

DEFECTS = 8  # at most, one image of each type
NORMALS = 3  # of the test set
TRAINING = 3
_TAG = 60  # characters of a file name

Drawn = tuple[ScoreRow, dict[str, Pixels]]


class Examples:
    """Test images, one of each defect type and the normals nearest to the threshold; and training images.

    Nearest, when they are chosen: in the first epoch that is monitored. A training image is shown with the hard-augmented
    copy of epoch 0, so that its strips differ by what the method has learned since.
    """

    def __init__(self, data: AnomalyData) -> None:
        self.data = data
        self.chosen: list[int] | None = None  # indices in the test set

    def choose(self, index: npt.NDArray, scores: npt.NDArray, labels: npt.NDArray, threshold: float) -> None:
        """Choose from the test images `index` (N,) with these scores and labels, unless that was done before."""
        if self.chosen is not None:
            return
        defects: dict[str, int] = {}
        for abnormal in np.sort(index[labels == 1]).tolist():
            defects.setdefault(self.data.test.samples[abnormal].defect, abnormal)
        nearest = index[labels == 0][np.argsort(np.abs(scores[labels == 0] - threshold), kind="stable")]
        self.chosen = [*list(defects.values())[:DEFECTS], *nearest[:NORMALS].tolist()]

    def log(self, writer: Any, step: int, detector: ScoringModel, device: torch.device) -> None:
        """Score them by a calibrated detector on this device, and write their strips at a step of a `SummaryWriter`.

        All maps share the detector's scale, and all decisions its threshold.
        """
        detector.standardiser.to(device)
        for group, drawn in (("test", self._test(detector)), ("training", self._training(detector, device))):
            for row, tiles in drawn:
                writer.add_image(
                    f"{group} images/{shorten_name(row.path, _TAG)}", strip(row, tiles), step, dataformats="HWC"
                )

    def _test(self, detector: ScoringModel) -> list[Drawn]:
        """Image, truth, map, restored image, overlay."""
        test, chosen = self.data.test, np.array(self.chosen or [], np.int64)
        drawn: list[Drawn] = []
        # photographs that are tiled may differ in size
        for part in [chosen] if detector.tiling is None else chosen[:, None]:
            images = np.asarray(test.images[part])
            samples = [test.samples[index] for index in part]
            drawn += _score(
                detector, detector.ready(torch.from_numpy(images)), images, map(test.mask_of, part), samples
            )
        return drawn

    def _training(self, detector: ScoringModel, device: torch.device) -> list[Drawn]:
        """The same of hard-augmented copies, after the image itself; of the image alone for a method that needs no copy."""
        train = self.data.clean
        chosen = np.unique(np.arange(TRAINING) * len(train) // TRAINING)
        images = np.asarray(train.images[chosen])
        clean, samples = to_float(torch.from_numpy(images)).to(device), [train.samples[index] for index in chosen]
        if self.data.augmentation is None:
            return _score(detector, clean, images, None, samples)
        augmented, mask = self.data.augmentation(clean, torch.from_numpy(chosen), 0, train.images)
        drawn = _score(detector, augmented, to_bytes(augmented), mask.cpu().numpy(), samples)
        names = {"image": "hard-augmented", "truth": "mask"}
        return [
            (row, {"image": to_rgb_image(image), **{names.get(name, name): tile for name, tile in tiles.items()}})
            for image, (row, tiles) in zip(images, drawn, strict=True)
        ]


@torch.no_grad()
def _score(
    detector: ScoringModel,
    images: Tensor,
    stored: Pixels,
    masks: Iterable[npt.NDArray | None] | None,
    samples: Sequence[Sample],
) -> list[Drawn]:
    """A row of the table of scores and the views of each image; one with a mask of its own counts as abnormal."""
    if not samples:
        return []
    scores, output = detector.score(images)
    return [
        (ScoreRow.decide(sample.name, label, sample.defect, score, detector.threshold), _tiles(picture, detector))
        for sample, score, picture in zip(samples, scores.tolist(), as_pictures(output, stored, masks), strict=True)
        for label in [int(sample.label or (picture.mask is not None and picture.mask.any()))]
    ]


def _tiles(picture: Picture, detector: ScoringModel) -> dict[str, Pixels]:
    """Its views, the truth second and the overlay, which has the anomaly map, last; that map alone only where no other is."""
    shown = views(picture, detector.map_scale, detector.pixel_threshold)
    kept = "anomaly map" if picture.attention_map is None else "attention map"
    return {name: shown[name] for name in ("image", "truth", kept, "restored", "overlay") if name in shown}
