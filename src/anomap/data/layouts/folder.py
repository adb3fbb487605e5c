"""Images in folders whose NAMES are the labels.

    root/train/<normal name>/**                        normal images to learn from
    root/test/<normal name>/**                         normal test images (no `test` at all: nothing is tested)
    root/test/<any other name>/**                      abnormal test images; the name is the defect
    root/ground_truth/<that name>/**/<stem>_mask.png   optional masks (also <stem>.png)

Or a test set alone, from any two folders, or from one: `normal_dir` and `abnormal_dir`.
"""

import dataclasses
import difflib
import logging
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from anomap.data.files import EXTENSIONS, existing_folder, find_files, find_images, is_image, shorten, visible_folders
from anomap.data.samples import ABNORMAL, NORMAL, Sample, Scan
from anomap.errors import UserError

log = logging.getLogger(__name__)

NORMAL_NAMES = ("0.normal", "normal", "good")
_PARTS = ("train", "test", "ground_truth")


class FolderLayout:
    """See the module's docstring. Whatever lies in these folders and is not used is named in one line of the log.

    Args:
        root: the folder with `train` and, unless nothing is to be tested, `test`.
        normal_names: names of folders with normal images; upper and lower case are the same.
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
            UserError: a folder is missing or empty, a label is in doubt, or a mask is missing or shared.
        """
        if self.normal_dir is not None or self.abnormal_dir is not None:
            return self._scan_two_folders()
        root = existing_folder("root", self.root)
        train_folders = self._class_folders(root / "train")
        abnormal = [folder.name for folder in train_folders if not self._is_normal(folder.name)]
        if abnormal:
            raise UserError(
                f"{root / 'train'} holds folders that are not normal ({shorten(abnormal)}): training uses normal images "
                f"only; move them to {root / 'test'}, or add their names to data.normal_names "
                f"(now {', '.join(self.normal_names)})"
            )
        test_folders = self._test_folders(root)
        train = [sample for folder in train_folders for sample in self._samples(folder, root)]
        test = [sample for folder in test_folders for sample in self._samples(folder, root)]
        self._check_inner_folders([*train, *test])
        test = _with_masks(test, root)
        parts = [root / part for part in _PARTS if (root / part).is_dir()]
        folders = [folder for part in parts for folder in visible_folders(part)]
        around = (path for parent in (root, *parts) for path in sorted(parent.iterdir()) if path.name[0] != ".")
        beside = [path for path in around if path not in parts and path not in folders]
        _tell_unused(folders, beside, root, {sample.mask for sample in test if sample.mask})
        return Scan(train, test)

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
            root = next(iter(folders.values())).parent
        test = [sample for label, folder in folders.items() for sample in self._labelled(folder, label, root)]
        _tell_unused(folders.values(), [], root)
        return Scan([], test)

    def _labelled(self, folder: Path, label: int, root: Path) -> Iterator[Sample]:
        """All images below `folder` with one label; sub-folders of an abnormal one are defects."""
        prefix = _prefix(folder, root)
        for inside in _images(folder):
            first, below, _ = inside.partition("/")
            defect = sys.intern(first) if label == ABNORMAL and below else folder.name
            yield Sample(prefix + inside, label, defect, root)

    def _is_normal(self, folder_name: str) -> bool:
        return folder_name.casefold() in {name.casefold() for name in self.normal_names}

    def _class_folders(self, folder: Path) -> list[Path]:
        if not folder.is_dir():
            raise UserError(f"{folder} does not exist: put normal images in {folder / self.normal_names[0]}")
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

    def _test_folders(self, root: Path) -> list[Path]:
        """The class folders of the test set; none where there is no folder that is, or could be meant as, `test`."""
        test = root / "test"
        if not test.is_dir():
            similar = [folder.name for folder in visible_folders(root) if folder.name not in _PARTS]
            similar = [name for name in similar if difflib.get_close_matches(name.casefold(), ["test"])]
            if similar:
                raise UserError(
                    f"{test} does not exist, but {root / similar[0]} does: rename one, or move it elsewhere"
                )
            log.warning("%s does not exist: nothing will be tested; thresholds come from normal images as ever", test)
            return []
        folders = self._class_folders(test)
        if not any(self._is_normal(folder.name) for folder in folders):
            raise UserError(
                f"no normal image in {test} (folders: {shorten([folder.name for folder in folders])}): "
                f"add one of {', '.join(self.normal_names)}, or name yours in data.normal_names"
            )
        return folders

    def _samples(self, folder: Path, root: Path) -> list[Sample]:
        label = NORMAL if self._is_normal(folder.name) else ABNORMAL
        prefix = _prefix(folder, root)
        return [Sample(prefix + inside, label, folder.name, root) for inside in _images(folder)]

    def _check_inner_folders(self, samples: Iterable[Sample]) -> None:
        """Refuse a sub-folder whose name contradicts the label that its images get from the class folder."""
        folders = {(sample.name.rpartition("/")[0], sample.label, sample.defect) for sample in samples}
        defects = {defect for _, label, defect in folders if label == ABNORMAL}
        for folder, label, _ in sorted(folders):
            part, own, *inner = folder.split("/")
            for name in inner:
                if name in defects if label == NORMAL else self._is_normal(name):
                    taken, meant = ("normal", "abnormal") if label == NORMAL else ("abnormal", "normal")
                    raise UserError(
                        f"{folder} has the name of {meant} images, but all images in {part}/{own} are taken as {taken}: "
                        "move or rename the inner folder"
                    )


def _images(folder: Path) -> list[str]:
    images = find_images(folder)
    if not images:
        kinds = " ".join(sorted(extension[1:] for extension in EXTENSIONS))
        raise UserError(f"no image in {folder} (looked for {kinds}): add images or remove the folder")
    return images


def _with_masks(test: list[Sample], root: Path) -> list[Sample]:
    """Attach masks; where there is ground truth at all, every abnormal image must have one of its own."""
    ground_truth = root / "ground_truth"
    if not (ground_truth.is_dir() and any(map(find_images, (ground_truth, *visible_folders(ground_truth))))):
        return test
    owners: dict[Path, str] = {}
    found: list[Sample] = []
    for sample in test:
        if sample.label == ABNORMAL:
            mask = _mask(sample, root, ground_truth)
            if mask in owners:
                raise UserError(
                    f"{root / owners[mask]} and {sample.name} would share the mask {mask}: "
                    "give each image a file name that differs in more than the extension"
                )
            owners[mask] = sample.name
            sample = dataclasses.replace(sample, mask=mask)
        found.append(sample)
    return found


def _mask(sample: Sample, root: Path, ground_truth: Path) -> Path:
    inside = Path(sample.name).relative_to("test")
    candidates = [ground_truth / inside.with_name(name) for name in (f"{inside.stem}_mask.png", f"{inside.stem}.png")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise UserError(
        f"{root / sample.name} has no mask {candidates[0]}: with {ground_truth} every abnormal test image needs one; "
        "add it, or move ground_truth away"
    )


def _prefix(folder: Path, root: Path) -> str:
    """What comes before the names of a folder's images, seen from the root."""
    inside = folder.relative_to(root).as_posix()
    return "" if inside == "." else f"{inside}/"


def _tell_unused(folders: Iterable[Path], beside: Iterable[Path], root: Path, masks: Collection[Path] = ()) -> None:
    """Name in one line of the log what was found and is not used.

    Every image of a class folder is a sample. What is left is masks without an image, links to folders and other files.

    Args:
        folders: the class folders, and those of the masks.
        beside: what else lies around them.
        root: names are told relative to it.
        masks: that are used.
    """
    kinds = ("images", "links to folders", "other folders", "files of other types")
    unused: dict[str, list[str]] = {kind: [] for kind in kinds}
    for path in beside:
        kind = "other folders" if path.is_dir() else "images" if is_image(path.name) else "files of other types"
        unused[kind].append(path.relative_to(root).as_posix())
    for folder in folders:
        files, links = find_files(folder)
        prefix = _prefix(folder, root)
        unused["links to folders"] += [prefix + name for name in links]
        unused["files of other types"] += [prefix + name for name in files if not is_image(name)]
        if prefix.startswith("ground_truth/"):
            unused["images"] += [prefix + name for name in files if is_image(name) and folder / name not in masks]
    told = [f"{len(names)} {kind} ({shorten(names)})" for kind, names in unused.items() if names]
    if told:
        harmless = not any(unused[kind] for kind in kinds[:-1])
        log.log(logging.INFO if harmless else logging.WARNING, "%s: not used: %s", root, "; ".join(told))
