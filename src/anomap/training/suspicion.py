"""Is the training set clean? Each training image scored as if it had been left out, and those named that stand out.

Calibration images, which were left out, are scored too: a defect among them lifts the threshold.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from anomap.data.anomaly_data import AnomalyData
from anomap.data.files import printable, shorten
from anomap.detection.calibration import share_of
from anomap.objectives.base import Objective
from anomap.objectives.left_out import (
    MINIMUM,
    OUTLYING,
    features_of,
    left_out_scores,
    local_maps,
    robust_z,
)
from anomap.objectives.representation import WhitenedFeatures
from anomap.runs.suspicious import CALIBRATION, OK, SUSPICIOUS, TRAIN, TRIMMED, TrainingRow
from anomap.training.clean import CleanBatches
from anomap.training.said import said

AT_MOST = 1000  # images that are looked at where their features are not kept
NAMED = 10  # in a line at most

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingCheck:
    """How unlike the others the training images are, those for calibration among them."""

    rows: Sequence[TrainingRow]  # the most unlike first
    of: int  # images, those that were not looked at too
    by: str  # what was looked at

    @property
    def suspicious(self) -> list[TrainingRow]:
        """Those that stand out."""
        return [row for row in self.rows if row.verdict == SUSPICIOUS]

    @property
    def scored(self) -> str:
        """How the scores came about, in words."""
        seen = "" if len(self.rows) == self.of else f" ({len(self.rows):,} were looked at)"
        return f"each scored by {self.by} as if it had been left out{seen}"

    def note(self, table: Path | None = None) -> str:
        """One sentence for people, with what to do about it if there is a `table`; empty if no image stands out."""
        found = self.suspicious
        if not found:
            return ""
        named = [f"{printable(row.path)} (z {row.robust_z:.1f}, {row.role})" for row in found[:NAMED]]
        more = f" and {len(found) - len(named)} more" if len(found) > len(named) else ""
        text = (
            f"{len(found)} of {self.of:,} training images look{'s' * (len(found) == 1)} unlike the others, {self.scored}: "
            f"{', '.join(named)}{more}"
        )
        return text if table is None else f"{text}; the report shows them, data.exclude={table} leaves them out"


@torch.no_grad()
def check_training(
    objective: Objective, data: AnomalyData, device: torch.device, everything: bool = False
) -> TrainingCheck:
    """Score training and calibration images: all, or of each `AT_MOST` where that takes another pass through an encoder.

    With `everything`, all of training all the same.
    """
    features = features_of(objective)
    kept = features is not None and features.cached
    train = CleanBatches(data, device, None if kept or everything else AT_MOST)
    held_out = CleanBatches(data, device, AT_MOST, data.pieces(data.calibration))
    samples, roles = [*train.samples, *held_out.samples], [TRAIN] * len(train.samples)
    roles += [CALIBRATION] * len(held_out.samples)
    with said(f"comparing {len(samples)} training {'images' if data.tiling is None else 'tiles'} with each other"):
        maps = local_maps(objective, held_out)
        scores = (
            left_out_scores(lambda: features.clean_local(train) if features else local_maps(objective, train), maps)
            if len(train.samples) > 1
            else torch.ones(len(samples))
        )
    highest: dict[str, tuple[float, str]] = {}  # of a photograph's tiles: a defect is in few of them
    for sample, role, score in zip(samples, roles, scores.tolist(), strict=True):
        name = sample.name if data.tiling is None else sample.name.rpartition("@")[0]
        highest[name] = max((score, role), highest.get(name, (score, role)))
    ranked = sorted(highest.items(), key=lambda pair: (-pair[1][0], pair[0]))
    far = robust_z(torch.tensor([score for _, (score, _) in ranked])).tolist()
    enough = len(ranked) >= MINIMUM
    rows = [
        TrainingRow(name, role, score, z, SUSPICIOUS if enough and z > OUTLYING else OK)
        for (name, (score, role)), z in zip(ranked, far, strict=True)
    ]
    by = "its patches of pixels" if features is None else "its features"
    by = by if data.tiling is None else f"{by} in some of its tiles"
    check = TrainingCheck(rows, len(data.train) + len(data.calibration), by)
    if check.suspicious:
        log.warning("%s", check.note())
    elif enough:
        farthest = f"{printable(rows[0].path)} (z {rows[0].robust_z:.1f}; named above {OUTLYING:g})"
        log.info("no training image stands out, %s; farthest is %s", check.scored, farthest)
    else:
        log.info("%d training images are too few to say whether one stands out (%d are needed)", len(rows), MINIMUM)
    return check


def trim(objective: Objective, data: AnomalyData, device: torch.device) -> TrainingCheck:
    """Leave the share `data.contamination` of the training images out of training, those that look most unlike the others."""
    objective.to(device)
    if features := features_of(objective):  # without what a subclass adds: all is learned anew from those that are left
        with said(f"features of {len(data.clean)} training images, to find those to leave out"):
            WhitenedFeatures.learn_statistics(features, CleanBatches(data, device))
    check = check_training(objective, data, device, everything=True)
    if features:
        features.forget()
    looked_at = [row.path for row in check.rows if row.role == TRAIN]  # of photographs in tiles perhaps not all
    names = looked_at[: share_of(len(looked_at), data.contamination)]
    log.warning(
        "data.contamination=%g: %d of %d training images are not learned from, those most unlike the others: %s",
        *(data.contamination, len(names), len(looked_at), shorten(names, NAMED)),
    )
    place = {sample.name: index for index, sample in enumerate(data.train.samples)}
    data.leave_out(sorted(place[name] for name in names))
    out = {*names}
    return replace(check, rows=[replace(row, role=TRIMMED) if row.path in out else row for row in check.rows])
