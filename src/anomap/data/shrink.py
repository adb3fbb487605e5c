"""How much of a photograph the network sees, and which defects are too small to be seen."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomap.data.checks import check_image_size
from anomap.data.decode import in_flight
from anomap.data.files import printable
from anomap.data.masks import Masks
from anomap.data.samples import Sample, spread
from anomap.data.tiles import finest_scale

SURVIVES = 4  # pixels at the network's size that a defect needs across: docs/trust.md
LOOKED_AT = 200  # masks at most, spread evenly


@dataclass(frozen=True)
class Defect:
    """The largest connected piece of an image's mask."""

    name: str
    diameter: float  # of a disc of its area, in pixels of the photograph
    seen: float  # the same, as the network sees it


def shrink_factors(size: tuple[int, int], data: Mapping[str, Any]) -> tuple[float, float]:
    """By how much (H, W) of a photograph are shrunk by a settled `data` group: above 1 where it loses pixels."""
    if data.get("tile") is not None:
        return 1 / data["scale"], 1 / data["scale"]
    height, width = (side * finest_scale(data) for side in check_image_size(data["image_size"]))
    return size[0] / height, size[1] / width


def smallest_surviving(size: tuple[int, int], data: Mapping[str, Any]) -> float:
    """The diameter, in pixels of a photograph of this (H, W), of the smallest defect that the network can be expected to see."""
    return SURVIVES * max(1.0, *shrink_factors(size, data))


def largest_piece(mask: NDArray[np.bool_]) -> float:
    """The diameter of a disc of the area of a mask's largest connected piece; 0 where it marks nothing."""
    from scipy import ndimage  # a second

    if not mask.any():
        return 0.0
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    pieces = np.zeros(inside.shape, np.int32)
    ndimage.label(inside, np.ones((3, 3)), output=pieces)
    return 2 * math.sqrt(np.bincount(pieces[inside]).max() / math.pi)


def masked_defects(samples: Iterable[Sample], masks: Masks, data: Mapping[str, Any]) -> list[Defect]:
    """Those of images whose masks mark something."""

    def measured(sample: Sample) -> Defect | None:
        mask = masks.of(sample)
        if mask is None or not (diameter := largest_piece(mask)):
            return None
        return Defect(sample.name, diameter, diameter / max(1.0, *shrink_factors(mask.shape, data)))

    known = [sample for sample in samples if sample.masks and sample in masks]
    return [defect for _, defect in in_flight(known, measured) if defect is not None]


def lost_defects(samples: Sequence[Sample], masks: Masks | None, data: Mapping[str, Any]) -> str | None:
    """`too_small` of some of a test set's images."""
    return None if masks is None else too_small(masked_defects(spread(samples, LOOKED_AT), masks, data))


def too_small(defects: Sequence[Defect]) -> str | None:
    """A line where masked defects are too small for the network."""
    lost = [defect for defect in defects if defect.seen < SURVIVES]
    if not lost:
        return None
    least = min(lost, key=lambda defect: defect.seen)
    return (
        f"{len(lost)} of {len(defects)} masked defects are less than {SURVIVES} pixels across as the network sees them, the "
        f"smallest {least.seen:.1f} ({least.diameter:.0f} in the photograph, {printable(least.name)}): expect misses"
    )
