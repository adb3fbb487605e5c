"""What would be caught, estimated without a test set: damaged copies of calibration normals, scored like any image.

Training never saw these images. Only those that pass are copied, and not the one whose score is the threshold: whatever is
done to it is an alarm. The damage is of kinds that no training draws (`anomap.augmentation.damages`), of four sizes and two
strengths. It is an estimate: real defects may be easier or harder, and the copies are of few images. It chooses nothing.
A photograph that is cut into tiles is damaged somewhere in a piece of a tile's size, and scored whole.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from anomap.augmentation.damages import KINDS, STRENGTHS, damage
from anomap.config import AUTO
from anomap.data.anomaly_data import AnomalyData
from anomap.data.imageset import to_float
from anomap.data.reading import read_size
from anomap.data.tiles import Tiling
from anomap.detection.metrics import auroc
from anomap.detection.pictures import as_pictures, to_bytes
from anomap.detection.scoring import ScoringModel
from anomap.errors import UserError
from anomap.evaluation.scored_set import take_pictures
from anomap.objectives.base import device_of
from anomap.runs.scores import ScoreRow, escape_cell, write_csv
from anomap.training.said import said
from anomap.viewing.estimate import EstimateTable, Line
from anomap.viewing.pixels import Picture

log = logging.getLogger(__name__)

Indices = npt.NDArray[np.int64]

SIZES = (0.02, 0.04, 0.08, 0.16)  # shares of the shorter side
EACH = 5  # copies of each kind, strength and size: 5 x 2 x 4 x 5 = 200 in all
EACH_IN_TILES = 1  # of photographs, which cost as much as all their tiles
SEEN = 4  # pixels that must have changed visibly: a copy in which fewer did is not counted
NORMALS_SHOWN = 24


@dataclass(frozen=True)
class Damaged:
    """A damaged copy of a normal image; the fields are the columns of `estimate.csv`."""

    image: str  # the normal, relative to the data root
    kind: str
    strength: str
    size: float  # longest side of the damage, share of the shorter side of the image, or of a tile
    pixels: int  # the same, as the detector sees it
    change: float  # mean change where it is visible, share of the range of intensities
    score: float


@dataclass(frozen=True)
class Estimate:
    """Calibration normals, and damaged copies of those that pass, scored. Pictures are by position in `rows`."""

    names: Sequence[str]  # of the N normals
    normal: npt.NDArray[np.float64]  # (N,), their scores
    damaged: Sequence[Damaged] = ()
    pictures: Mapping[int, Picture] = field(default_factory=dict)
    seconds: float = 0.0

    def rows(self, threshold: float) -> list[ScoreRow]:
        """As of a test set: the normals, then the copies, whose kinds are the defects."""
        normal = [
            ScoreRow.decide(name, 0, "normal", score, threshold)
            for name, score in zip(self.names, self.normal, strict=True)
        ]
        copies = (
            ScoreRow.decide(f"{d.image}/{d.kind}, {d.strength}, {d.pixels} px", 1, d.kind, d.score, threshold)
            for d in self.damaged
        )
        return [*normal, *copies]

    def metrics(self, threshold: float) -> dict[str, Any]:
        """What `metrics.json` holds of it; empty without a damaged copy."""
        if not self.damaged:
            return {}
        found: dict[str, Any] = {
            f"estimate_{key}": value for key, value in self._rates(self.damaged, threshold).items()
        }
        for kind in dict.fromkeys(copy.kind for copy in self.damaged):
            rates = self._rates([copy for copy in self.damaged if copy.kind == kind], threshold)
            found |= {f"estimate_{kind}_{key}": value for key, value in rates.items()}
        for size in dict.fromkeys(copy.size for copy in self.damaged):
            of_size = [copy for copy in self.damaged if copy.size == size]
            found[f"estimate_size_{100 * size:g}_tpr"] = self._rates(of_size, threshold)["tpr"]
            found[f"estimate_size_{100 * size:g}_px"] = of_size[0].pixels
        note = (
            f"an estimate, not a test: {len(self.damaged)} copies of {len({copy.image for copy in self.damaged})} calibration "
            "image(s) that pass, damaged in ways that training does not draw; real defects may be easier or harder"
        )
        return {**found, "estimate_note": note, "n_estimate": len(self.damaged), "estimate_seconds": self.seconds}

    def table(self, threshold: float) -> EstimateTable | None:
        """Caught of each kind, strength and size; None without a damaged copy."""
        if not self.damaged:
            return None
        pixels = {copy.size: copy.pixels for copy in self.damaged}
        sizes, lines = sorted(pixels), []
        for kind, strength in dict.fromkeys((copy.kind, copy.strength) for copy in self.damaged):
            own = [copy for copy in self.damaged if (copy.kind, copy.strength) == (kind, strength)]
            by_size = [[copy.score > threshold for copy in own if copy.size == size] for size in sizes]
            counts = tuple((sum(caught), len(caught)) for caught in by_size)
            area, change = self._rates(own, threshold)["auroc"], float(np.mean([copy.change for copy in own]))
            lines.append(Line(kind, strength, change, counts, area))
        return EstimateTable(tuple(sizes), tuple(pixels[size] for size in sizes), tuple(lines))

    def boundary(self, threshold: float) -> list[int]:
        """Of each kind the largest missed and the smallest caught that have a picture: positions in `rows`."""
        first, chosen = len(self.normal), []
        shown = [position - first for position in sorted(self.pictures) if position >= first]
        for kind in dict.fromkeys(copy.kind for copy in self.damaged):
            own = sorted((p for p in shown if self.damaged[p].kind == kind), key=lambda p: self.damaged[p].size)
            missed = [p for p in own if self.damaged[p].score <= threshold]
            caught = [p for p in own if self.damaged[p].score > threshold]
            chosen += [first + p for p in (*missed[-1:], *caught[:1])]
        return chosen

    def _rates(self, copies: Sequence[Damaged], threshold: float) -> dict[str, float | None]:
        scores = np.array([copy.score for copy in copies])
        labels = np.repeat([0, 1], [len(self.normal), len(scores)])
        return {
            "auroc": auroc(np.concatenate([self.normal, scores]), labels),
            "tpr": float((scores > threshold).mean()),
        }


def check_estimate(value: Any) -> None:
    """Raise UserError unless it is one of what `estimate` in `conf/train.yaml` may be."""
    if not (value == AUTO or isinstance(value, bool)):
        raise UserError(f"estimate={value}: give auto, true or false")


def wanted(value: Any, n_abnormal: int) -> bool:
    """Whether to estimate: `auto` does where no abnormal image is there to be tested."""
    return n_abnormal == 0 if value == AUTO else bool(value)


def calibration_normals(detector: ScoringModel, data: AnomalyData, pictures: bool) -> Estimate:
    """The calibration normals without any copy; `pictures` keeps some to be shown."""
    count = len(data.calibration)
    spread = sorted({count * k // NORMALS_SHOWN for k in range(NORMALS_SHOWN)}) if pictures else []
    names = [sample.name for sample in data.calibration.samples]
    scores = detector.calibration.scores.double().cpu().numpy()
    return Estimate(names, scores, pictures=take_pictures(detector, data.calibration, spread))


@torch.inference_mode()
def estimate(
    detector: ScoringModel, data: AnomalyData, trained: Collection[str] = (), seed: int = 0, pictures: bool = True
) -> Estimate:
    """Damage and score; the same for the same `seed`, which is that of the places and directions.

    `trained` are the names (`module.Class`) of what the training's augmentation was made of: a kind among them is left out.
    With `pictures`, one copy of each kind, strength and size is kept to be shown, the first.
    """
    began, plain = time.perf_counter(), calibration_normals(detector, data, pictures)
    passing = np.flatnonzero(plain.normal < detector.threshold)
    if not len(passing):
        log.warning("estimate left out: no calibration image is below the threshold, so there is none to damage")
        return plain
    kinds = [
        kind for kind, parts in KINDS.items() if not {f"{p.__module__}.{p.__name__}" for p in parts[:2]} & {*trained}
    ]
    cells = list(product(kinds, STRENGTHS, range(len(SIZES))))
    damaged, shown = [], dict(plain.pictures)
    with said(f"estimating on {len(cells) * _each(detector)} damaged copies of calibration images"):
        for kind, strength, size in cells:
            copies, picture = _copies(detector, data, passing, kind, strength, size, seed)
            if copies and pictures:
                shown[len(plain.names) + len(damaged)] = picture(0)
            damaged += copies
    return replace(plain, damaged=damaged, pictures=shown, seconds=time.perf_counter() - began)


def _each(detector: ScoringModel) -> int:
    return EACH if detector.tiling is None else EACH_IN_TILES


def _copies(
    detector: ScoringModel, data: AnomalyData, passing: Indices, kind: str, strength: str, size: int, seed: int
) -> tuple[list[Damaged], Callable[[int], Picture]]:
    """Those damaged visibly, of some of the calibration images `passing`; and what makes the picture of one of them."""
    each = _each(detector)
    number = torch.arange(each) + size * each  # faint and clear ones of a kind are at the same places
    chosen = passing[number.numpy() % len(passing)]
    stored = np.asarray(data.calibration.images[chosen])
    piece = _piece(stored.shape, detector.tiling, [seed, int(number[0])])
    images = to_float(torch.from_numpy(stored[piece]).to(device_of(detector)))
    changed, masks = damage(kind, SIZES[size], strength, seed)(images, number, 0)
    copied, where = stored.copy(), np.zeros_like(stored[:, :1])
    copied[piece], where[piece] = to_bytes(changed), masks.byte().cpu().numpy()
    scores, output = detector.score(changed if detector.tiling is None else torch.from_numpy(copied))
    area, change = masks.flatten(1).sum(1), ((changed - images).abs().amax(1, keepdim=True) * masks).flatten(1).sum(1)
    seen = (area >= SEEN).nonzero()[:, 0].tolist()
    samples = [data.calibration.samples[place] for place in chosen]
    pixels = round(max(2, SIZES[size] * min(images.shape[2:])))
    facts = kind, strength, SIZES[size], pixels
    copies = [Damaged(samples[k].name, *facts, float(change[k] / area[k]), float(scores[k])) for k in seen]

    def picture(which: int) -> Picture:
        k = seen[which]
        path = samples[k].path
        whole = as_pictures(output, copied, where)[k]
        return replace(whole, undamaged=stored[k], size=path and np.array(read_size(path, sys.maxsize)))

    return copies, picture


def _piece(shape: Sequence[int], tiling: Tiling | None, seed: Sequence[int]) -> tuple[slice, ...]:
    """What of images (B, C, H, W) is damaged: all of it, or of photographs in tiles a piece of that size, placed by `seed`."""
    sides = shape[2:] if tiling is None or tiling.scales else [min(tiling.tile, side) for side in shape[2:]]
    room = [whole - side + 1 for whole, side in zip(shape[2:], sides, strict=True)]
    starts = np.random.default_rng(seed).integers(room).tolist()
    return slice(None), slice(None), *(slice(start, start + side) for start, side in zip(starts, sides, strict=True))


def write_estimate(path: str | os.PathLike[str], found: Estimate, threshold: float) -> None:
    """Write `estimate.csv`: one damaged copy per line, with whether it was caught; every digit is kept."""
    header = [*(column.name for column in fields(Damaged)), "threshold", "decision"]
    lines = (
        [
            escape_cell(copy.image),
            copy.kind,
            copy.strength,
            *map(repr, astuple(copy)[3:]),
            repr(threshold),
            _word(copy, threshold),
        ]
        for copy in found.damaged
    )
    write_csv(path, [header, *lines])


def _word(copy: Damaged, threshold: float) -> str:
    return "caught" if copy.score > threshold else "missed"
