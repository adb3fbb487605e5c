"""The objective of a search: normal images against abnormal ones of kinds that no trial was trained with.

A trial trains with the hard augmentation less some kinds of regions and fills. Its score is the AUROC of the calibration
normals against the same images hard-augmented with the kinds held out, a fixed set, without any threshold. The parts of
the score are standardised on the calibration normals, as in every run.

What it can tell: which settings find changes of an unknown kind among images that were not trained on, and do not merely
recognise the augmentation they learned. No test image is opened and no test label is used, so test metrics after the
search are as honest as before.

What it cannot tell: how well real defects are found. The changes are drawn, not real; settings that suit them need not
suit yours, and differences below the spread over seeds mean nothing. The calibration normals have been looked at once per
trial, so the share of false alarms that the final threshold promises on them is slightly optimistic: `test_fpr` is
independent of the search.
"""

from collections.abc import Mapping, Sequence
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
    """A layout without its test set: of that no image is opened."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def scan(self) -> Scan:
        """The normal training images, as they were found."""
        found = self._layout.scan()
        return Scan(found.train, [], found.pixels)


def without(augmentation: Mapping[str, Any], held_out: Mapping[str, Any]) -> dict[str, Any]:
    """The augmentation to train with: less the kinds of regions and fills that are held out, whatever they are called.

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
    """The images of the objective, and its value for a method.

    Args:
        data: set up; its calibration normals are the normal images.
        augmentation: the `held_out` group, plain: how the abnormal images are made.

    Raises:
        UserError: none of the images was changed visibly.
    """

    def __init__(self, data: AnomalyDataModule, augmentation: Mapping[str, Any]) -> None:
        make, normals = build(augmentation), data.calibration
        self.normal: list[Tensor] = []  # (B, C, H, W) each, in [0, 1]
        self.abnormal: list[Tensor] = []
        for index in SequentialBatches(len(normals), data.batch_size):
            images = to_float(normals[index]["image"])
            changed, masks = make(images, torch.from_numpy(index), 0, Donors(data.train))
            visible = masks.flatten(1).any(1)  # an image in which nothing changed is a normal one
            self.normal.append(images)
            self.abnormal.append(changed[visible])
        if not sum(map(len, self.abnormal)):
            raise UserError("held_out: no image was changed visibly; choose other regions and fills")

    def auroc(self, objective: Objective, image_size: tuple[int, int]) -> float:
        """The AUROC in [0, 1] of a method with the weights that score; nan if a score is no finite number.

        The method is left as it was: nothing of the standardisation stays in it.
        """
        device = next(iter([*objective.parameters(), *objective.buffers()]), torch.empty(0)).device
        detector = ScoringModel(objective, image_size).to(device)
        detector.calibrate([{"image": images.to(device)} for images in self.normal])
        normal, abnormal = (_scores(detector, images, device) for images in (self.normal, self.abnormal))
        scores = np.concatenate([normal, abnormal])
        if not np.isfinite(scores).all():
            return float("nan")
        value = auroc(scores, np.repeat([0, 1], [len(normal), len(abnormal)]))
        return float("nan") if value is None else value


@torch.inference_mode()
def _scores(detector: ScoringModel, images: Sequence[Tensor], device: torch.device) -> np.ndarray:
    """Anomaly scores (N,) float64 of batches of images, of which some may be empty."""
    return torch.cat([detector.score(part.to(device))[0].double().cpu() for part in images if len(part)]).numpy()
