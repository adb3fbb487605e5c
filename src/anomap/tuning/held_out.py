"""The objective of a search: normal images against abnormal ones of kinds that no trial was trained with.

A trial trains with the hard augmentation, except for some kinds of regions and fills. Its score is the AUROC of the
calibration normals against the same images, changed by the kinds held out, equally in every trial. No test image is opened.

The AUROC shows which settings find changes of an unknown kind in unseen images, not how well real defects are found;
differences below the spread over seeds mean nothing. Every trial looks at the calibration normals, so the false-positive
rate that the final threshold promises is slightly optimistic; `test_fpr` does not depend on the search.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anomap.config import build
from anomap.data.anomaly_data import AnomalyData
from anomap.data.imageset import to_float
from anomap.data.sampler import SequentialBatches
from anomap.detection.metrics import auroc
from anomap.detection.scoring import ScoringModel
from anomap.errors import UserError
from anomap.objectives.base import Batch, Objective, device_of


def without(augmentation: Mapping[str, Any], held_out: Mapping[str, Any]) -> dict[str, Any]:
    """The `augmentation` group to train with: without the held-out classes of regions and fills, whatever their names.

    The group `held_out` names them in its `only_regions` and `only_fills`. UserError if nothing is held out, a name is
    unknown, or nothing is left to train with.
    """
    left = dict(augmentation)
    for kind in ("regions", "fills"):
        key, names = f"only_{kind}", held_out[f"only_{kind}"]
        if not names:
            raise UserError(f"held_out.{key}={names}: name at least one that no trial is trained with")
        unknown = [name for name in names if name not in held_out[kind]]
        if unknown:
            raise UserError(f"held_out.{key}: {unknown[0]} is not there; known: {', '.join(held_out[kind])}")
        classes = {held_out[kind][name]["_target_"] for name in names}
        left[kind] = {name: part for name, part in augmentation[kind].items() if part["_target_"] not in classes}
        if augmentation.get(key) is not None:
            left[key] = [name for name in augmentation[key] if name in left[kind]]
        drawn = left[kind] if left.get(key) is None else left[key]
        if augmentation[kind] and not drawn:
            raise UserError(
                f"held_out.{key}={names}: augmentation={augmentation['name']} has no other, so nothing is left to train with"
            )
    known = left["regions"].keys() | left["fills"].keys()
    left["exclude"] = [pair for pair in augmentation.get("exclude", []) if set(pair) <= known]
    return left


class HeldOut:
    """The images of the objective, and its value for a method; one batch is in memory at a time.

    The normal images are the calibration normals of `data`, which is set up, or a sample of their tiles; `augmentation`,
    the `held_out` group, plain, makes the abnormal ones. UserError if it changes none visibly.
    """

    def __init__(self, data: AnomalyData, augmentation: Mapping[str, Any]) -> None:
        self._data, self._normals, self._augmentation = data, data.pieces(data.calibration), build(augmentation)
        if not any(len(changed) for changed in self.abnormal()):
            raise UserError("held_out: no image was changed visibly; choose other regions and fills")

    def normal(self) -> Iterator[Batch]:
        """The calibration normals in batches: `image` (B, C, H, W) in [0, 1], `index` and `scaling` (B,)."""
        for index in SequentialBatches(len(self._normals), self._data.batch_size):
            batch = self._normals[index]
            yield {**batch, "image": to_float(batch["image"])}

    def abnormal(self) -> Iterator[Tensor]:
        """Those in which something changed visibly (B, C, H, W), changed; the same each time. A batch may be empty."""
        for batch in self.normal():
            changed, masks = self._augmentation(batch["image"], batch["index"], 0, self._data.clean.images)
            yield changed[masks.flatten(1).any(1)]

    def auroc(self, objective: Objective) -> float:
        """The AUROC in [0, 1] of a method, which is left as it was; nan if a score is not a finite number."""
        detector = ScoringModel(objective, self._data.image_size)
        device = device_of(detector)
        batches = ({**batch, "image": batch["image"].to(device)} for batch in self.normal())
        detector.to(device).calibrate(batches, trained_on=len(self._data.clean))
        normal = _scores(detector, (batch["image"] for batch in self.normal()), device)
        abnormal = _scores(detector, self.abnormal(), device)
        scores = np.concatenate([normal, abnormal])
        if not np.isfinite(scores).all():
            return float("nan")
        value = auroc(scores, np.repeat([0, 1], [len(normal), len(abnormal)]))
        return float("nan") if value is None else value


@torch.inference_mode()
def _scores(detector: ScoringModel, images: Iterable[Tensor], device: torch.device) -> np.ndarray:
    """Anomaly scores (N,) float64 of batches of images, of which some may be empty."""
    return torch.cat([detector.score(part.to(device))[0].double().cpu() for part in images if len(part)]).numpy()
