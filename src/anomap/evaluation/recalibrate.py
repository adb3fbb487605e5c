"""Scale and thresholds anew from new normal images, by the calibration that a training ends with; nothing is trained."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from anomap.data.anomaly_data import AnomalyData
from anomap.data.build import build_data
from anomap.data.check import heard
from anomap.data.files import shorten
from anomap.data.leakage import same_content, without_test_copies
from anomap.data.samples import NORMAL, Sample, Scan, choose_scaling, split_calibration
from anomap.detection.calibration import Threshold, resolve_threshold
from anomap.detection.scoring import ScoringModel
from anomap.errors import UserError
from anomap.evaluation.measure import batches
from anomap.evaluation.other_data import evaluation_data
from anomap.intervals import chance_of_alarms
from anomap.training.said import said

log = logging.getLogger(__name__)

LEAST = 4  # images for a score of several parts: two for their scale, two for the threshold
SURE, LIKELY = 0.001, 0.05  # levels of the test of whether it was needed


@dataclass(frozen=True)
class Recalibration:
    """What changed."""

    threshold: Threshold
    before: Threshold
    names: Sequence[str]  # N paths, relative to the data root
    scores: npt.NDArray[np.float64]  # (N,), on the new scale
    n_scaling: int
    alarms: int  # of the N, by the old threshold
    chance: float | None  # P(as many alarms or more), if nothing had changed; None: the old threshold promised nothing

    @property
    def needed(self) -> str:
        """One sentence."""
        found = f"the old threshold alarms on {self.alarms} of {len(self.names)} of these normals"
        if self.chance is None or self.before.promised_fpr is None:
            return f"{found}, and had promised nothing"
        known = f"{found}, where it promised at most {100 * self.before.promised_fpr:.1f} %"
        if self.chance < SURE:
            return f"{known}: recalibration was needed (by chance so many have a probability of {self.chance:.1g})"
        if self.chance < LIKELY:
            return f"{known}: recalibration was probably needed (by chance so many have a probability of {self.chance:.1g})"
        return f"{known}, which may be chance (probability {self.chance:.2g}): nothing says that it was needed"


def new_normals(given: Mapping[str, Any], trained: Mapping[str, Any]) -> tuple[dict[str, Any], list[Sample], Scan]:
    """The `data` group to read with, the normal images that calibrate, and what else was found with them.

    `given` is the group of the command, `trained` that of the checkpoint. All normal images that a training would take count;
    of two folders, those of `normal_dir`. UserError: no folder, or no normal image in it.
    """
    if "name" not in given and all(given.get(key) is None for key in ("root", "normal_dir")):
        raise UserError("data.root is not set: give data.root=DIR, a folder of new normal images")
    used = evaluation_data(trained, given)
    if "name" not in given and trained["name"] not in (
        "folder",
        "mvtec",
    ):  # whose own images are another kind of folder
        used = evaluation_data(trained, {"name": "folder", **given})
    with _told(but="nothing will be tested"):
        found = build_data(used).layout.scan()
    normals = found.train or [sample for sample in found.test if sample.label == NORMAL]
    if not normals:
        raise UserError("no normal image to calibrate on: give data.root=DIR, a folder of new normal images")
    return used, [replace(sample, masks=()) for sample in normals], found


def without_trained(
    normals: list[Sample], trained: Mapping[str, Any], n_train: int, skip: bool
) -> tuple[list[Sample], str]:
    """The normals that the detector was not trained on, and a sentence where that cannot be known; mostly empty.

    Asks the content of the files that the checkpoint's own `data` group still finds. UserError: some were trained on, unless
    with `skip`, which leaves them out with a warning, or none would be left.
    """
    unknown = "whether it was trained on some of these images cannot be known"
    try:
        with heard([]):  # of a set that nobody asked about
            known, same = without_test_copies(build_data(trained).layout.scan(), leave_out=True)
            learned, _ = split_calibration(known, trained["calibration_fraction"], same)
    except UserError:
        return normals, f"{unknown}: the images of the training are not where they were"
    paths = {sample.path for sample in learned if sample.path is not None}
    if not paths or len(learned) < n_train:
        return normals, f"{unknown}: not all images of the training are there any more"
    copies = {sample.path for group in same_content([*learned, *normals]) for sample in group if _any(group, paths)}
    again = [sample for sample in normals if sample.path in paths | copies]
    if again:
        names = shorten([sample.name for sample in again])
        problem = (
            f"{len(again)} of {len(normals)} images were trained on, so their scores are too low to calibrate: {names}"
        )
        if not skip or len(again) == len(normals):
            raise UserError(
                f"{problem}; give other images" + ("" if skip else ", or leave these out with data.on_error=skip")
            )
        log.warning("%s; left out", problem)
    return [sample for sample in normals if sample not in again], ""


def _any(group: Sequence[Sample], paths: set[Any]) -> bool:
    return any(sample.path in paths for sample in group)


def calibration_only(data: AnomalyData, normals: list[Sample], found: Scan) -> None:
    """Set up data all of whose images calibrate."""
    normals, same = without_test_copies(Scan(normals, []))
    data.layout = Scan([], normals, found.pixels)
    with _told():  # it would count a test set
        data.setup()
    data.calibration, data.test = data.test, data.calibration
    data.calibration.scaling = choose_scaling(data.calibration.samples, same)


@contextmanager
def _told(but: str | None = None) -> Iterator[None]:
    """Of what the data says, only the warnings, without those with a text that is not for a calibration."""
    lines: list[str] = []
    with heard(lines):
        yield
    for line in lines:
        if but is None or but not in line:
            log.warning("%s", line)


def recalibrate(
    detector: ScoringModel, data: AnomalyData, before: Mapping[str, Any], config: Mapping[str, Any]
) -> Recalibration:
    """Calibrate a detector anew on `data.calibration`; `before` and `config` are the old and the new threshold's group.

    UserError: too few images for the scale of several parts.
    """
    stored, count = detector.calibration, len(data.calibration)
    if detector.standardiser.scales and count < LEAST:
        raise UserError(
            f"{count} normal image(s) are too few: some set the scale of the score's parts and others the threshold, at least "
            f"{LEAST} in all, which promise {100 / (LEAST // 2 + 1):.0f} % false alarms at most; 38 promise 5 %"
        )
    deciding = stored.scores[~stored.scaling].double().numpy()
    old = replace(_resolved(before, deciding, detector.contamination), value=detector.threshold)
    detector.contamination = data.contamination  # of the new normals
    with said(f"scoring {count} calibration images"):
        scores = detector.recalibrate(batches(data.calibration_dataloader(), detector)).double().numpy()
    threshold = detector.set_threshold(config)
    alarms, chance = int((scores > old.value).sum()), None
    if old.promised_fpr is not None:
        rank = round((1 - old.promised_fpr) * (len(deciding) + 1))
        chance = chance_of_alarms(alarms, count, len(deciding), rank)
    names = [sample.name for sample in data.calibration.samples]
    n_scaling = int(stored.scaling.sum())
    return Recalibration(threshold, old, names, stored.scores.double().numpy(), n_scaling, alarms, chance)


def _resolved(config: Mapping[str, Any], scores: npt.NDArray[np.float64], contamination: float = 0.0) -> Threshold:
    """That of a checkpoint; one that did not come from its calibration promises nothing."""
    if config.get("strategy") in ("quantile", "gaussian"):
        return resolve_threshold(config, scores, contamination=contamination)
    return Threshold(0.0, str(config.get("strategy")), None)
