"""Images in folders whose NAMES are the labels.

    root/train/<normal name>/**                     normal images to learn from
    root/test/<normal name>/**                      normal test images
    root/test/<any other name>/**                   abnormal test images; the name is the defect
    root/ground_truth/<that name>/**/<stem>_mask.png   optional masks (also <stem>.png)

or a test set alone, made of any two folders, or of one: `normal_dir` and `abnormal_dir`.
"""

import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from anomap.data.files import EXTENSIONS, find_images, is_image, shorten, visible_folders
from anomap.data.layouts.paths import existing_folder
from anomap.data.samples import ABNORMAL, NORMAL, Sample, Scan
from anomap.errors import UserError

NORMAL_NAMES = ("0.normal", "normal", "good")


class FolderLayout:
    """See the module's docstring.

    Args:
        root: the folder with `train` and `test`.
        normal_names: names of folders with normal images, compared without regard to case.
        normal_dir: instead of `root`, with `abnormal_dir` or alone: a folder of normal test images.
        abnormal_dir: a folder of abnormal test images; its sub-folders are the defects.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        normal_names: Sequence[str] = NORMAL_NAMES,
        normal_dir: str | os.PathLike[str] | None = None,
        abnormal_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if isinstance(normal_names, str) or not normal_names:
            raise UserError(f"data.normal_names={normal_names!r}: use a list of folder names such as [good,ok]")
        self.root = root
        self.normal_names = [str(name) for name in normal_names]
        self.normal_dir = normal_dir
        self.abnormal_dir = abnormal_dir

    def scan(self) -> Scan:
        """Find and label the samples.

        Raises:
            UserError: a folder is missing or empty, there is no normal image, an abnormal folder is under
                `train`, an image lies outside the class folders, or a mask is missing where there is ground
                truth.
        """
        if self.normal_dir is not None or self.abnormal_dir is not None:
            return self._scan_two_folders()
        root = existing_folder("root", self.root)
        train_folders = self._class_folders(root, "train")
        abnormal = [folder.name for folder in train_folders if not self._is_normal(folder.name)]
        if abnormal:
            raise UserError(
                f"{root / 'train'} holds folders that are not normal ({shorten(abnormal)}): training uses "
                "normal "
                f"images only; move them to {root / 'test'}, or add their names to data.normal_names "
                f"(now {', '.join(self.normal_names)})"
            )
        test_folders = self._class_folders(root, "test")
        if not any(self._is_normal(folder.name) for folder in test_folders):
            raise UserError(
                f"no normal image in {root / 'test'} (folders: {shorten([f.name for f in test_folders])}): "
                f"add one of {', '.join(self.normal_names)}, or name yours in data.normal_names"
            )
        train = [sample for folder in train_folders for sample in self._samples(folder, root)]
        test = [sample for folder in test_folders for sample in self._samples(folder, root)]
        return Scan(train, self._with_masks(test, root))

    def _scan_two_folders(self) -> Scan:
        given = {NORMAL: ("normal_dir", self.normal_dir), ABNORMAL: ("abnormal_dir", self.abnormal_dir)}
        folders = {
            label: existing_folder(key, value).resolve() for label, (key, value) in given.items() if value is not None
        }
        if len(folders) == 2:
            normal, abnormal = folders.values()
            if normal.is_relative_to(abnormal) or abnormal.is_relative_to(normal):
                raise UserError(
                    f"data.normal_dir={self.normal_dir} and data.abnormal_dir={self.abnormal_dir} hold the same "
                    "images: name two folders of which neither is inside the other"
                )
            root = Path(os.path.commonpath([normal, abnormal]))
        else:
            (folder,) = folders.values()
            root = folder.parent
        return Scan([], [sample for label, folder in folders.items() for sample in self._labelled(folder, label, root)])

    def _labelled(self, folder: Path, label: int, root: Path) -> Iterator[Sample]:
        """All images below `folder` with one label; sub-folders of an abnormal one are defects."""
        prefix = _prefix(folder, root)
        for inside in self._images(folder):
            first, below, _ = inside.partition("/")
            defect = sys.intern(first) if label == ABNORMAL and below else folder.name
            yield Sample(prefix + inside, label, defect, root)

    def _is_normal(self, folder_name: str) -> bool:
        return folder_name.casefold() in {name.casefold() for name in self.normal_names}

    def _class_folders(self, root: Path, part: str) -> list[Path]:
        folder = root / part
        if not folder.is_dir():
            raise UserError(
                f"{folder} does not exist: data=folder needs {root}/train/{self.normal_names[0]} and "
                f"{root}/test/{self.normal_names[0]}"
            )
        stray = sorted(path.name for path in folder.iterdir() if path.is_file() and is_image(path.name))
        if stray:
            raise UserError(
                f"{folder} holds images outside a class folder ({shorten(stray)}): labels are folder names; "
                f"move normal ones to {folder / self.normal_names[0]}"
            )
        folders = visible_folders(folder)
        if not folders:
            raise UserError(f"no normal image in {folder}: put them in {folder / self.normal_names[0]}")
        return folders

    def _samples(self, folder: Path, root: Path) -> list[Sample]:
        label = NORMAL if self._is_normal(folder.name) else ABNORMAL
        prefix = _prefix(folder, root)
        return [Sample(prefix + inside, label, folder.name, root) for inside in self._images(folder)]

    def _images(self, folder: Path) -> list[str]:
        images = find_images(folder)
        if not images:
            kinds = " ".join(sorted(extension[1:] for extension in EXTENSIONS))
            raise UserError(f"no image in {folder} (looked for {kinds}): add images or remove the folder")
        return images

    def _with_masks(self, test: list[Sample], root: Path) -> list[Sample]:
        """Attach masks; where there is ground truth at all, every abnormal image must have its own."""
        ground_truth = root / "ground_truth"
        if not (ground_truth.is_dir() and find_images(ground_truth)):
            return test
        return [
            dataclasses.replace(sample, mask=_mask(sample, root, ground_truth)) if sample.label == ABNORMAL else sample
            for sample in test
        ]


def _mask(sample: Sample, root: Path, ground_truth: Path) -> Path:
    inside = Path(sample.name).relative_to("test")
    candidates = [ground_truth / inside.with_name(name) for name in (f"{inside.stem}_mask.png", f"{inside.stem}.png")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise UserError(
        f"{root / sample.name} has no mask {candidates[0]}: with {ground_truth} every abnormal test image "
        "needs one; "
        "add it, or move ground_truth away"
    )


def _prefix(folder: Path, root: Path) -> str:
    """What comes before the names of a folder's images, seen from the root."""
    inside = folder.relative_to(root).as_posix()
    return "" if inside == "." else f"{inside}/"
