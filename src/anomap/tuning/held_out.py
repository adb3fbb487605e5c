"""The objective of a search: normal images against abnormal ones of kinds that no trial was trained with.

A trial trains with the hard augmentation, except for some kinds of regions and fills. Its score is the AUROC of the
calibration normals against the same images, changed by the kinds held out. These images are the same in every trial, and
no threshold is involved. The parts of the score are standardised on the calibration normals, as in every run.

It shows which settings find changes of an unknown kind in images that were not trained on. No test image is opened and
no test label is used, so test metrics after the search are as honest as before.

It does not show how well real defects are found: the changes are drawn, and differences below the spread over seeds mean
nothing. Each trial looks at the calibration normals once, so the false-positive rate that the final threshold promises is
slightly optimistic; `test_fpr` does not depend on the search.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anomap.config import build
from anomap.data.datamodule import AnomalyDataModule
from anomap.data.imageset import Donors, to_float
from anomap.data.layouts import Layout
from anomap.data.sampler import SequentialBatches
from anomap.data.samples import Scan
from anomap.detection.metrics import auroc
from anomap.detection.scoring import ScoringModel
from anomap.errors import UserError
from anomap.objectives.base import Objective


class NormalsOnly:
    """A layout without its test set, so that no test image is opened."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def scan(self) -> Scan:
        """The normal training images, as they were found."""
        found = self._layout.scan()
        return Scan(found.train, [], found.pixels)


def without(augmentation: Mapping[str, Any], held_out: Mapping[str, Any]) -> dict[str, Any]:
    """The augmentation to train with: without the held-out kinds (classes) of regions and fills, whatever their names.

    Args:
        augmentation: the `augmentation` group, plain.
        held_out: the same, whose `only_regions` and `only_fills` name what is held out.

    Raises:
        UserError: nothing is held out, a name is unknown, or nothing is left to train with.
    """
    left = dict(augmentation)
    for kind in ("regions", "fills"):
        names = held_out[f"only_{kind}"]
        if not names:
            raise UserError(f"held_out.only_{kind}={names}: name at least one that no trial is trained with")
        unknown = [name for name in names if name not in held_out[kind]]
        if unknown:
            raise UserError(f"held_out.only_{kind}: {unknown[0]} is not there; known: {', '.join(held_out[kind])}")
        kinds = {held_out[kind][name]["_target_"] for name in names}
        left[kind] = {name: part for name, part in augmentation[kind].items() if part["_target_"] not in kinds}
        only = augmentation.get(f"only_{kind}")
        if only is not None:
            left[f"only_{kind}"] = [name for name in only if name in left[kind]]
        if augmentation[kind] and not (left[kind] if only is None else left[f"only_{kind}"]):
            raise UserError(
                f"held_out.only_{kind}={names}: augmentation={augmentation['name']} has no other, so nothing is left to train with"
            )
    known = left["regions"].keys() | left["fills"].keys()
    left["exclude"] = [pair for pair in augmentation.get("exclude", []) if set(pair) <= known]
    return left


class HeldOut:
    """The images of the objective, and its value for a method; one batch is in memory at a time.

    Args:
        data: set up; its calibration normals are the normal images.
        augmentation: the `held_out` group, plain: how the abnormal images are made.

    Raises:
        UserError: none of the images was changed visibly.
    """

    def __init__(self, data: AnomalyDataModule, augmentation: Mapping[str, Any]) -> None:
        self._data, self._augmentation = data, build(augmentation)
        if not any(len(changed) for changed in self.abnormal()):
            raise UserError("held_out: no image was changed visibly; choose other regions and fills")

    def normal(self) -> Iterator[Tensor]:
        """The calibration normals in batches (B, C, H, W) in [0, 1]."""
        return (images for images, _ in self._batches())

    def abnormal(self) -> Iterator[Tensor]:
        """Those of them in which something changed visibly, changed; the same each time. A batch may be empty."""
        for images, index in self._batches():
            changed, masks = self._augmentation(images, index, 0, Donors(self._data.train))
            yield changed[masks.flatten(1).any(1)]

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        normals = self._data.calibration
        for index in SequentialBatches(len(normals), self._data.batch_size):
            yield to_float(normals[index]["image"]), torch.from_numpy(index)

    def auroc(self, objective: Objective, image_size: tuple[int, int]) -> float:
        """The AUROC in [0, 1] of a method with the weights that score; nan if a score is not a finite number.

        The method itself stays as it was: the standardisation is not part of it.
        """
        device = next(iter([*objective.parameters(), *objective.buffers()]), torch.empty(0)).device
        detector = ScoringModel(objective, image_size).to(device)
        detector.calibrate({"image": images.to(device)} for images in self.normal())
        normal, abnormal = (_scores(detector, images, device) for images in (self.normal(), self.abnormal()))
        scores = np.concatenate([normal, abnormal])
        if not np.isfinite(scores).all():
            return float("nan")
        value = auroc(scores, np.repeat([0, 1], [len(normal), len(abnormal)]))
        return float("nan") if value is None else value


@torch.inference_mode()
def _scores(detector: ScoringModel, images: Iterable[Tensor], device: torch.device) -> np.ndarray:
    """Anomaly scores (N,) float64 of batches of images, of which some may be empty."""
    return torch.cat([detector.score(part.to(device))[0].double().cpu() for part in images if len(part)]).numpy()
