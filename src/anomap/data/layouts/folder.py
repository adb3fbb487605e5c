"""Images in folders whose NAMES are the labels.

    root/train/<normal name>/**                        normal images to learn from; or in root/train itself, and with
                                                       nothing to test in root/<normal name>, or root itself
    root/test/<normal name>/**                         normal test images (no `test` at all: nothing is tested)
    root/test/<any other name>/**                      abnormal test images; the name is the defect
    root/ground_truth/<that name>/**/<stem>_mask.png   optional masks (`ground_truth` knows more names)

Or a test set alone, from any two folders, or from one: `normal_dir` and `abnormal_dir`. MVTec AD (Bergmann et al.,
CVPR 2019) has one such root for each category, with `good` for normal.
"""

import difflib
import logging
import os
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

from anomap.data.accounting import account
from anomap.data.exclusion import NOTHING, Exclusion
from anomap.data.files import (
    KINDS,
    existing_folder,
    find_images,
    is_image,
    left_out,
    prefix_of,
    scan_folder,
    shorten,
    subfolders,
)
from anomap.data.layouts.ground_truth import with_masks
from anomap.data.samples import ABNORMAL, NORMAL, Sample, Scan
from anomap.errors import UserError, nearest

log = logging.getLogger(__name__)

NORMAL_NAMES = ("good", "normal", "0.normal")  # messages name the first
_PARTS = ("train", "test", "ground_truth")


@dataclass
class FolderLayout:
    """See the module's docstring. One line of the log accounts for every file: used, or left out and why."""

    root: str | os.PathLike[str] | None = None  # the folder with `train` and `test`, or with normal images alone
    normal_names: Sequence[str] = NORMAL_NAMES  # of folders with normal images; upper and lower case are the same
    normal_dir: str | os.PathLike[str] | None = None  # instead of `root`: a folder of normal test images
    abnormal_dir: str | os.PathLike[str] | None = None  # of abnormal test images; its sub-folders are the defects
    exclude: Exclusion = NOTHING  # files that are left out of everything

    def __post_init__(self) -> None:
        if isinstance(self.normal_names, str) or not self.normal_names:
            raise UserError(f"data.normal_names={self.normal_names!r}: use a list of folder names such as [good,ok]")
        self.normal_names = [str(name) for name in self.normal_names]

    def scan(self) -> Scan:
        """UserError: a folder is missing or empty, a label is in doubt, or a mask is missing or shared."""
        if self.normal_dir is not None or self.abnormal_dir is not None:
            return self._scan_two_folders()
        root = existing_folder("root", self.root)
        train_folders = self._train_folders(root)
        if abnormal := [folder.name for folder, label in train_folders.items() if label == ABNORMAL]:
            raise UserError(
                f"{root / 'train'} holds folders that are not normal ({shorten(abnormal)}): training uses normal images "
                f"only; move them to {root / 'test'}, or add their names to data.normal_names "
                f"(now {', '.join(self.normal_names)})"
            )
        test_folders = self._test_folders(root)
        train, test = _samples(train_folders, root), _samples(test_folders, root)
        prefixes = [prefix_of(folder, root) for folder in (*train_folders, *test_folders)]
        self._check_inner_folders([*train, *test], prefixes)
        scan = self.exclude.apply(Scan(train, test))
        train, test = scan.train, with_masks(scan.test, root)
        parts = [root / part for part in _PARTS if (root / part).is_dir()]
        folders = [root, *parts, *train_folders, *(folder for part in parts for folder in subfolders(part))]
        left = account(root, [*dict.fromkeys(folders)], _roles(train, test), scan.excluded, self.exclude.source)
        return replace(scan, test=test, left_out=str(left) if left else "")

    def _scan_two_folders(self) -> Scan:
        given = (("normal_dir", self.normal_dir, NORMAL), ("abnormal_dir", self.abnormal_dir, ABNORMAL))
        labelled = [(existing_folder(key, value).resolve(), label) for key, value, label in given if value is not None]
        folders = [folder for folder, _ in labelled]
        if any(one.is_relative_to(other) for one, other in permutations(folders, 2)):
            raise UserError(
                f"data.normal_dir={self.normal_dir} and data.abnormal_dir={self.abnormal_dir} hold the same "
                "images: name two folders of which neither is inside the other"
            )
        root = Path(os.path.commonpath([folder.parent for folder in folders]))
        scan = self.exclude.apply(Scan([], _samples(dict(labelled), root, by_subfolder=True)))
        left = account(root, folders, _roles([], scan.test), scan.excluded, self.exclude.source)
        return replace(scan, left_out=str(left) if left else "")

    def _label(self, folder_name: str) -> int:
        known = (name.casefold() for name in self.normal_names)
        return NORMAL if folder_name.casefold() in known else ABNORMAL

    def _train_folders(self, root: Path) -> dict[Path, int]:
        """The folders to learn from, each with its label: those in `train`, or wherever normal images are alone."""
        train, folders = root / "train", subfolders(root)
        if train.is_dir():
            return {train: NORMAL} if _loose(train) and not subfolders(train) else self._class_folders(train)
        normal = [folder for folder in folders if self._label(folder.name) == NORMAL]
        others, good = [folder.name for folder in folders if folder not in normal], train / self.normal_names[0]
        move = f"move normal images to {good} and what is to be tested to {root / 'test'}"
        if loose := _loose(root):
            if folders:
                found = f"images ({shorten(loose)}) beside folders ({shorten([folder.name for folder in folders])})"
                raise UserError(
                    f"{root} holds {found}, so what is normal is in doubt: leave normal images alone, or {move}"
                )
            return {root: NORMAL}
        if normal and others:
            raise UserError(f"{train} does not exist, but {normal[0]} beside {shorten(others)}: {move}")
        if not normal:
            own = "" if {*others} <= {*_PARTS} else f", or name yours in data.normal_names (here: {shorten(others)})"
            raise UserError(f"{train} does not exist: put normal images in {good}, or with nothing else in {root}{own}")
        return dict.fromkeys(normal, NORMAL)

    def _class_folders(self, folder: Path) -> dict[Path, int]:
        """Those in a folder, each with its label."""
        if stray := _loose(folder):
            raise UserError(
                f"{folder} holds images outside a class folder ({shorten(stray)}): labels are folder names; "
                f"move normal ones to {folder / self.normal_names[0]}"
            )
        if not (folders := subfolders(folder)):
            raise UserError(f"no normal image in {folder}: put them in {folder / self.normal_names[0]}")
        return {folder: self._label(folder.name) for folder in folders}

    def _test_folders(self, root: Path) -> dict[Path, int]:
        """The class folders of the test set; none where there is no folder that is, or could be meant as, `test`."""
        test = root / "test"
        if not test.is_dir():
            for name in (folder.name for folder in subfolders(root) if folder.name not in _PARTS):
                if difflib.get_close_matches(name.casefold(), ["test"]):
                    raise UserError(f"{test} does not exist, but {root / name} does: rename one, or move it elsewhere")
            log.warning("no %s: nothing will be tested; thresholds come from normal images as ever", test)
            return {}
        folders = self._class_folders(test)
        if NORMAL not in folders.values():
            raise UserError(
                f"no normal image in {test} (folders: {shorten([folder.name for folder in folders])}): "
                f"add one of {', '.join(self.normal_names)}, or name yours in data.normal_names"
            )
        return folders

    def _check_inner_folders(self, samples: Iterable[Sample], prefixes: Sequence[str]) -> None:
        """Refuse a sub-folder whose name contradicts the label that its images get from the class folder.

        `prefixes` are those of the class folders' files.
        """
        folders = {(sample.name.rpartition("/")[0], sample.label, sample.defect) for sample in samples}
        defects = {defect for _, label, defect in folders if label == ABNORMAL}
        for folder, label, _ in sorted(folders):
            own = next(prefix for prefix in prefixes if f"{folder}/".startswith(prefix))
            for name in f"{folder}/".removeprefix(own).split("/"):
                if name in defects if label == NORMAL else self._label(name) == NORMAL:
                    taken, meant = ("normal", "abnormal") if label == NORMAL else ("abnormal", "normal")
                    raise UserError(
                        f"{folder} has the name of {meant} images, but all images in {own.rstrip('/')} are taken as {taken}: "
                        "move or rename the inner folder"
                    )


@dataclass(frozen=True)
class MVTecLayout:
    """A category of MVTec AD; names are relative to the category's folder."""

    root: str | os.PathLike[str] | None = None  # the folder with the categories
    category: str | None = None  # one of them, such as `bottle`
    exclude: Exclusion = NOTHING  # files that are left out of everything

    def scan(self) -> Scan:
        """UserError: as in `FolderLayout`, or an unknown category."""
        root = existing_folder("root", self.root)
        categories = [folder.name for folder in subfolders(root) if (folder / "train").is_dir()]
        if self.category not in categories:
            close, choices = nearest(str(self.category), categories), ", ".join(categories) or "none: no category"
            hint = f"did you mean {close}? " if close else ""
            raise UserError(f"data.category={self.category} is not a category of {root}: {hint}choose from {choices}")
        return FolderLayout(root / self.category, normal_names=["good"], exclude=self.exclude).scan()


def _loose(folder: Path) -> list[str]:
    """The names of the images in a folder itself."""
    files = (entry.name for entry in scan_folder(folder) if left_out(entry) is None and entry.is_file())
    return sorted(filter(is_image, files))


def _samples(labelled: dict[Path, int], root: Path, by_subfolder: bool = False) -> list[Sample]:
    """All images below labelled folders; a defect is the folder's name, or its sub-folder's if `by_subfolder`."""
    samples: list[Sample] = []
    for folder, label in labelled.items():
        images, prefix = find_images(folder), prefix_of(folder, root)
        if not images:
            raise UserError(f"no image in {folder} (looked for {KINDS}): add images or remove the folder")
        for name in images:
            inner = by_subfolder and label == ABNORMAL and "/" in name
            defect = sys.intern(name.split("/")[0]) if inner else folder.name
            samples.append(Sample(prefix + name, label, defect, root))
    return samples


def _roles(train: Iterable[Sample], test: Collection[Sample]) -> dict[str, list[str]]:
    """The names of the files that are used, by what for."""
    masks = [prefix_of(mask, sample.root) for sample in test if sample.root for mask in sample.masks]
    return {"train": [s.name for s in train], "test": [s.name for s in test], "masks": [m.rstrip("/") for m in masks]}
