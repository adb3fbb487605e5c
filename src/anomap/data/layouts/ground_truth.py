"""Which mask files belong to which image: `ground_truth/<defect>/**/<stem>_mask.png`, and whatever else people call them."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from anomap.data.files import find_images, prefix_of, shorten, subfolders
from anomap.data.samples import NORMAL, Sample
from anomap.errors import UserError

ENDS = ("_mask", "-mask", "_gt", "-gt", "")  # what follows the image's stem; the first that is there is taken
FOLDER = "ground_truth"


def with_masks(test: list[Sample], root: Path) -> list[Sample]:
    """Attach masks; where there is ground truth at all, every abnormal image must have one of its own.

    Beside a file, a folder with the image's stem may hold several masks, which are united. Upper and lower case and Unicode
    forms are the same, unless two files differ in nothing else. UserError: a mask is missing, in doubt, or shared.
    """
    truth = root / FOLDER
    if not truth.is_dir() or not (names := _mask_files(truth)):
        return test
    files: dict[str, list[Path]] = defaultdict(list)  # key of a mask without its extension, or of its folder
    for name in names:
        path = truth / name
        files[_key(path.parent, path.stem, truth)].append(path)
        files[f"{_key(path.parent.parent, path.parent.name, truth)}/"].append(path)
    owners: dict[Path, str] = {}
    return [replace(sample, masks=_own(sample, _find(sample, truth, root, files), owners, root)) for sample in test]


def _mask_files(truth: Path) -> list[str]:
    """All of them, relative; a folder of a defect may be a link."""
    folders = (truth, *subfolders(truth))
    return sorted({prefix_of(folder, truth) + name for folder in folders for name in find_images(folder)})


def _find(sample: Sample, truth: Path, root: Path, files: dict[str, list[Path]]) -> tuple[Path, ...]:
    """Its masks; none of a normal image that has none."""
    beside = truth / sample.name.removeprefix("test/")
    for end in ENDS:
        found = files.get(_key(beside.parent, beside.stem + end, truth), [])
        found = [path for path in found if path.stem == beside.stem + end] or found
        if len(found) > 1:
            raise UserError(
                f"{root / sample.name} has {len(found)} masks ({_listed(found)}): keep one, "
                f"or put those that belong together into the folder {beside.with_suffix('')}"
            )
        if found:
            return tuple(found)
    for end in ENDS:
        if found := files.get(f"{_key(beside.parent, beside.stem + end, truth)}/"):
            return tuple(found)
    if sample.label == NORMAL:
        return ()
    raise UserError(
        f"{root / sample.name} has no mask {beside.with_name(f'{beside.stem}_mask.png')}: with {truth} every abnormal "
        "test image needs one; add it, or move ground_truth away"
    )


def _own(sample: Sample, masks: tuple[Path, ...], owners: dict[Path, str], root: Path) -> tuple[Path, ...]:
    """The masks, noted as this sample's; UserError if they are another's."""
    for mask in masks:
        if mask in owners:
            raise UserError(
                f"{root / owners[mask]} and {sample.name} would share the mask {mask}: "
                "give each image a file name that differs in more than the extension"
            )
        owners[mask] = sample.name
    return masks


def _key(folder: Path, stem: str, truth: Path) -> str:
    """One text for all spellings of a place below `truth`."""
    inside = (folder / stem).relative_to(truth) if folder.is_relative_to(truth) else Path()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", inside.as_posix()).casefold())


def _listed(paths: Iterable[Path]) -> str:
    return shorten([path.name for path in paths])
