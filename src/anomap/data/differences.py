"""Sets of files that differ in what is no defect: their kind, or their size. What a detector learns of that is worth nothing."""

import os
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from typing import Any

from anomap.data.samples import ABNORMAL, NORMAL, Sample, Scan, spread
from anomap.data.settle import SAMPLE, sizes_of

MIXED = 1.5  # of the greatest to the least ratio of sides
FEW = 3  # kinds or sizes of a set: more say nothing about it, as of crops
_SAME = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".tiff": ".tif", ".apng": ".png", ".dib": ".bmp"}
Sizes = Sequence[tuple[int, int]]  # (H, W)


def roles(found: Scan) -> dict[str, list[Sample]]:
    """The files by what they are for; `train` is still to be split."""
    return {
        "train": found.train,
        "test normal": [sample for sample in found.test if sample.label == NORMAL],
        "test abnormal": [sample for sample in found.test if sample.label == ABNORMAL],
    }


def kind_of(name: str) -> str:
    """Its extension, of several that mean the same always one."""
    suffix = os.path.splitext(name)[1].lower()
    return _SAME.get(suffix, suffix)


def doubts(found: Scan, data: Mapping[str, Any]) -> list[str]:
    """What a training says of a settled `data` group beside all else: `differences` and `mixed_shapes` of some files."""
    sizes = {role: sizes_of(spread(part, SAMPLE), data.get("max_pixels")) for role, part in roles(found).items()}
    return [*differences(found, sizes), *mixed_shapes(sizes["train"], data)]


def mixed_shapes(sizes: Sizes, data: Mapping[str, Any]) -> list[str]:
    """A line where photographs (H, W) of different shapes are squeezed to one."""
    shapes = [width / height for height, width in sizes]
    if not shapes or data.get("tile") is not None or max(shapes) <= MIXED * min(shapes):
        return []
    return [
        f"photographs of different shapes (width by height {min(shapes):.2g} to {max(shapes):.2g}) are all squeezed to one: "
        "the same part looks different; crop them alike, or cut them into tiles with data.tile"
    ]


def differences(found: Scan, sizes: Mapping[str, Sizes]) -> list[str]:
    """A line for each way in which sets have nothing in common; `sizes` (H, W) are by role."""
    kinds = {role: [kind_of(s.name) for s in part if s.path is not None] for role, part in roles(found).items()}
    shown = {role: [f"{width} x {height}" for height, width in of] for role, of in sizes.items()}
    return [*_lines("are", kinds), *_lines("have", shown)]


def _lines(verb: str, values: Mapping[str, Collection[Hashable]]) -> Iterator[str]:
    sets = {role: {*found} for role, found in values.items()}
    train, normal, abnormal = (sets.get(role, set()) for role in ("train", "test normal", "test abnormal"))
    if _apart(normal, abnormal):
        yield (
            f"normal test images {verb} {_said(normal)} and abnormal ones {_said(abnormal)}: a detector may tell these apart "
            "and no defect; the results may mean nothing"
        )
    if _apart(train, normal):
        yield (
            f"training images {verb} {_said(train)} and normal test images {_said(normal)}: from another camera or program? "
            "Then false alarms are no surprise"
        )


def _apart(one: set[Any], other: set[Any]) -> bool:
    return bool(one and other) and not one & other and max(len(one), len(other)) <= FEW


def _said(values: Collection[Any]) -> str:
    return " and ".join(sorted(map(str, values)))
