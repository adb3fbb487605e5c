"""Labels by folder name, masks, and the line each mistake gets."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from anomap.data.layouts.folder import FolderLayout, MVTecLayout
from anomap.errors import UserError

from ..helpers import make_dataset, save


def error_of(layout: FolderLayout | MVTecLayout) -> str:
    with pytest.raises(UserError) as caught:
        layout.scan()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_names_labels_and_defects(tmp_path: Path) -> None:
    root = make_dataset(tmp_path, train=2, normal=1, abnormal=1)
    save(root / "test/scratch/deep/er/x.JPG", seed=1)
    scan = FolderLayout(root).scan()
    assert [sample.name for sample in scan.train] == ["train/0.normal/00.png", "train/0.normal/01.png"]
    assert [(sample.name, sample.label, sample.defect) for sample in scan.test] == [
        ("test/0.normal/00.png", 0, "0.normal"),
        ("test/crack/00.png", 1, "crack"),
        ("test/scratch/deep/er/x.JPG", 1, "scratch"),
    ]
    assert all(sample.path == root / sample.name and not sample.masks for sample in scan.train + scan.test)


@pytest.mark.parametrize("name", ["0.normal", "normal", "good", "Good", "NORMAL"])
def test_normal_names_are_compared_without_case(tmp_path: Path, name: str) -> None:
    save(tmp_path / "train" / name / "a.png")
    save(tmp_path / "test" / name / "a.png")
    scan = FolderLayout(tmp_path).scan()
    assert [sample.label for sample in scan.train + scan.test] == [0, 0]


def test_own_normal_names(tmp_path: Path) -> None:
    for part in ("train", "test"):
        save(tmp_path / part / "ok" / "a.png")
    assert "data.normal_names" in error_of(FolderLayout(tmp_path))
    assert len(FolderLayout(tmp_path, normal_names=["ok"]).scan().train) == 1
    with pytest.raises(UserError, match=r"data\.normal_names"):
        FolderLayout(tmp_path, normal_names="ok")


def test_hidden_files_and_other_files_are_ignored(tmp_path: Path) -> None:
    root = make_dataset(tmp_path, train=2)
    save(root / "train/0.normal/.hidden.png")
    save(root / "train/0.normal/.ipynb_checkpoints/a.png")
    save(root / "train/.cache/a.png")
    (root / "train/0.normal/Thumbs.db").touch()
    (root / "train/readme.txt").touch()
    assert len(FolderLayout(root).scan().train) == 2


def test_missing_or_unset_root(tmp_path: Path) -> None:
    assert "data.root is not set" in error_of(FolderLayout())
    assert "does not exist" in error_of(FolderLayout(tmp_path / "nowhere"))
    assert "is not a folder" in error_of(FolderLayout(save(tmp_path / "file.png")))


def test_missing_train(tmp_path: Path) -> None:
    save(tmp_path / "test/good/a.png")
    assert f"{tmp_path / 'train'} does not exist" in error_of(FolderLayout(tmp_path))


def test_train_alone_is_enough_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_dataset(tmp_path, normal=0, abnormal=0)
    scan = FolderLayout(root).scan()
    assert (len(scan.train), scan.test) == (12, [])
    assert "nothing will be tested" in caplog.text


@pytest.mark.parametrize("place", [".", "good", "Normal", "train", "train/good"])
def test_normal_images_alone_are_enough(tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str) -> None:
    caplog.set_level("INFO")
    for number in range(3):
        save(tmp_path / "data" / place / f"{number}.png", seed=number)
    (tmp_path / "data" / place / "notes.txt").touch()
    scan = FolderLayout(tmp_path / "data").scan()
    inside = "" if place == "." else f"{place}/"
    assert [sample.name for sample in scan.train] == [f"{inside}{number}.png" for number in range(3)]
    assert ([sample.label for sample in scan.train], scan.test) == ([0, 0, 0], [])
    assert all(sample.path is not None and sample.path.is_file() for sample in scan.train)
    nothing, accounted = (record.message for record in caplog.records)
    assert "nothing will be tested" in nothing
    assert f"4 files: 3 used (3 train; 3 .png); left out 1: 1 .txt ({inside}notes.txt)" in accounted


def test_images_straight_in_train_are_normal_beside_a_test_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_dataset(tmp_path, train=0, masks=True)
    save(root / "train/a.png", seed=1)
    scan = FolderLayout(root).scan()
    assert [sample.name for sample in scan.train] == ["train/a.png"]
    assert Counter(sample.defect for sample in scan.test) == {"0.normal": 4, "crack": 3}
    assert "left out" not in caplog.text


def test_folders_within_good_alone_are_read(tmp_path: Path) -> None:
    save(tmp_path / "good/camera 1/0.png", seed=1)
    assert [sample.name for sample in FolderLayout(tmp_path).scan().train] == ["good/camera 1/0.png"]


@pytest.mark.parametrize(
    ("images", "parts"),
    [
        (["a.png", "good/b.png"], ["images (a.png) beside folders (good)", "leave normal images alone", "train/good"]),
        (["a.png", "batch/b.png"], ["images (a.png) beside folders (batch)", "in doubt"]),
        (["a.png", "test/good/b.png"], ["images (a.png) beside folders (test)", "train/good"]),
        (["good/a.png", "scratch/b.png"], ["train does not exist", "good beside scratch", "/test"]),
        (["good/a.png", "test/good/b.png"], ["train does not exist", "good beside test", "train/good"]),
        (["batch/a.png", "other/b.png"], ["data.normal_names (here: batch, other)", "train/good"]),
        ([], ["train does not exist", "put normal images in", "train/good"]),
        (["train/a.png", "train/good/b.png"], ["outside a class folder (a.png)", "train/good"]),
    ],
)
def test_where_it_is_in_doubt_which_images_are_normal_one_line_says_so(
    tmp_path: Path, images: list[str], parts: list[str]
) -> None:
    for number, name in enumerate(images):
        save(tmp_path / name, seed=number)
    message = error_of(FolderLayout(tmp_path))
    for part in parts:
        assert part in message


@pytest.mark.parametrize("name", ["Test", "tests", "testing"])
def test_a_test_folder_of_another_name_is_not_passed_over(tmp_path: Path, name: str) -> None:
    make_dataset(tmp_path, train=2)
    (tmp_path / "test").rename(tmp_path / name)
    assert name in error_of(FolderLayout(tmp_path))


def _told(root: Path, caplog: pytest.LogCaptureFixture, **options: Any) -> tuple[str, str]:
    caplog.set_level("INFO")
    caplog.clear()
    FolderLayout(**(options or {"root": root})).scan()
    (record,) = [record for record in caplog.records if " files: " in record.getMessage()]
    return record.levelname, record.getMessage()


def test_every_file_is_accounted_for_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_dataset(tmp_path / "data", masks=True)
    save(root / "train/0.normal/b.jpg", seed=50)
    assert _told(root, caplog) == (
        "INFO",
        f"{root}: 23 files: 23 used (13 train, 7 test, 3 masks; 22 .png, 1 .jpg)",
    )
    (root / "test/notes.txt").touch()
    level, text = _told(root, caplog)
    assert level == "INFO"
    assert text.endswith("; left out 1: 1 .txt (test/notes.txt)")
    save(root / "ground_truth/crack/99_mask.png")
    save(root / "beside.png")
    save(root / "valid/good/a.png")
    save(tmp_path / "elsewhere/a.png")
    (root / "test/crack/more").symlink_to(tmp_path / "elsewhere")
    level, text = _told(root, caplog)
    assert level == "WARNING"
    assert "28 files: 23 used" in text
    for part in (
        "left out 5: 2 images outside the class folders (beside.png, valid/good/a.png)",
        "1 masks of no abnormal image (ground_truth/crack/99_mask.png)",
        "1 links to folders (test/crack/more)",
    ):
        assert part in text
    bad, good = root / "test/crack", root / "test/0.normal"
    assert "links to folders (crack/more)" in _told(root, caplog, normal_dir=good, abnormal_dir=bad)[1]


def test_class_folders_that_are_links_are_accounted_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_dataset(tmp_path / "data", masks=True)
    for folder in ("train/0.normal", "test/crack", "ground_truth/crack"):
        (root / folder).rename(tmp_path / folder.replace("/", " "))
        (root / folder).symlink_to(tmp_path / folder.replace("/", " "))
    level, text = _told(root, caplog)
    assert (level, text) == ("INFO", f"{root}: 22 files: 22 used (12 train, 7 test, 3 masks; 22 .png)")
    assert [bool(sample.masks) for sample in FolderLayout(root).scan().test] == [False] * 4 + [True] * 3


def test_thumbnails_of_a_nas_are_no_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_dataset(tmp_path, train=4, normal=2, abnormal=2)
    for folder in ("train/0.normal", "test/0.normal", "test/crack", "train"):
        save(root / folder / "@eaDir/00.png/SYNOPHOTO_THUMB_M.jpg", seed=9)
    save(root / "test/#recycle/old.png", seed=9)
    save(root / "train/0.normal/._00.png", seed=9)
    level, text = _told(root, caplog)
    assert level == "INFO"
    assert "14 files: 8 used (4 train, 4 test; 8 .png); left out 6: 4 in @eaDir (" in text
    assert "1 in #recycle (test/#recycle/old.png), 1 of the operating system (train/0.normal/._00.png)" in text


def test_a_folder_that_cannot_be_read_is_refused_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_dataset(tmp_path, train=2)
    for name in ("train/0.normal/closed", "lost+found", "private"):
        save(root / name / "a.png", seed=5)
    closed, scandir = {root / "private", root / "lost+found"}, os.scandir

    def guarded(path: Path) -> Any:  # file modes do not stop the superuser, whom tests may run as
        if Path(path) in closed:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    text = _told(root, caplog)[1]  # what is not needed is only named
    assert "1 folders that cannot be read (private)" in text
    assert "1 in lost+found (lost+found)" in text
    closed.add(root / "train/0.normal/closed")
    assert f"{root / 'train/0.normal/closed'}: this folder cannot be read (Permission denied)" in error_of(
        FolderLayout(root)
    )


def test_what_is_no_file_is_never_opened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_dataset(tmp_path, train=2, normal=1, abnormal=1)
    os.mkfifo(root / "train/0.normal/pipe.png")
    (root / "test/crack/linked.png").symlink_to(root / "train/0.normal/pipe.png")
    level, text = _told(root, caplog)
    assert level == "WARNING"
    assert "2 no regular files (test/crack/linked.png, train/0.normal/pipe.png)" in text


def test_folders_within_a_class_are_read_but_must_not_contradict_it(tmp_path: Path) -> None:
    root = make_dataset(tmp_path, train=2)
    save(root / "train/0.normal/camera 1/A.JPEG", seed=1)
    assert len(FolderLayout(root).scan().train) == 3
    save(root / "train/0.normal/crack/a.png", seed=2)
    assert "train/0.normal/crack has the name of abnormal images" in error_of(FolderLayout(root))
    (root / "train/0.normal/crack").rename(root / "test/crack/Good")
    assert "test/crack/Good has the name of normal images" in error_of(FolderLayout(root))


def test_no_normal_image_in_train(tmp_path: Path) -> None:
    save(tmp_path / "test/good/a.png")
    (tmp_path / "train").mkdir()
    assert "no normal image in" in error_of(FolderLayout(tmp_path))
    (tmp_path / "train/good").mkdir()
    assert f"no image in {tmp_path / 'train/good'}" in error_of(FolderLayout(tmp_path))


def test_no_normal_image_in_test(tmp_path: Path) -> None:
    save(tmp_path / "train/good/a.png")
    save(tmp_path / "test/crack/a.png")
    assert f"no normal image in {tmp_path / 'test'}" in error_of(FolderLayout(tmp_path))


def test_empty_defect_folder(tmp_path: Path) -> None:
    (make_dataset(tmp_path) / "test/empty").mkdir()
    assert f"no image in {tmp_path / 'test/empty'}" in error_of(FolderLayout(tmp_path))


def test_abnormal_images_under_train(tmp_path: Path) -> None:
    save(make_dataset(tmp_path) / "train/1.abnormal/a.png")
    message = error_of(FolderLayout(tmp_path))
    assert "1.abnormal" in message
    assert "normal images only" in message


@pytest.mark.parametrize("part", ["train", "test"])
def test_images_without_a_class_folder(tmp_path: Path, part: str) -> None:
    save(make_dataset(tmp_path) / part / "stray.png")
    assert "stray.png" in error_of(FolderLayout(tmp_path))


def test_any_two_folders_make_a_test_set(tmp_path: Path) -> None:
    normal, abnormal = tmp_path / "a/fine", tmp_path / "b/bad"
    save(normal / "1.png", 1)
    save(abnormal / "1.png", 2)
    save(abnormal / "hole/1.png", 3)
    scan = FolderLayout(normal_dir=normal, abnormal_dir=abnormal).scan()
    assert scan.train == []
    assert {(s.name, s.label, s.defect) for s in scan.test} == {
        ("a/fine/1.png", 0, "fine"),
        ("b/bad/1.png", 1, "bad"),
        ("b/bad/hole/1.png", 1, "hole"),
    }


@pytest.mark.parametrize(("key", "label", "defect"), [("normal_dir", 0, "a"), ("abnormal_dir", 1, "b")])
def test_one_folder_makes_a_test_set_of_one_class(tmp_path: Path, key: str, label: int, defect: str) -> None:
    save(tmp_path / "a/b/1.png")
    options: dict[str, Any] = {key: tmp_path / "a"}
    (sample,) = FolderLayout(**options).scan().test
    assert (sample.name, sample.label, sample.defect) == ("a/b/1.png", label, defect)


def test_two_folders_must_be_apart(tmp_path: Path) -> None:
    save(tmp_path / "a/b/1.png")
    assert "inside" in error_of(FolderLayout(normal_dir=tmp_path / "a", abnormal_dir=tmp_path / "a/b"))
    (tmp_path / "c").mkdir()
    assert "no image" in error_of(FolderLayout(normal_dir=tmp_path / "a", abnormal_dir=tmp_path / "c"))


def test_mvtec_is_the_folder_layout_of_a_category(tmp_path: Path) -> None:
    for name in ("bottle", "cable"):
        save(tmp_path / name / "train/good/000.png", seed=1)
        save(tmp_path / name / "test/good/000.png", seed=2)
        save(tmp_path / name / "test/broken/000.png", seed=3)
        save(tmp_path / name / "ground_truth/broken/000_mask.png", 255)
    scan = MVTecLayout(tmp_path, "cable").scan()
    assert Counter(sample.defect for sample in scan.test) == {"good": 1, "broken": 1}
    assert scan.train[0].name == "train/good/000.png"
    assert next(s.masks for s in scan.test if s.label) == (tmp_path / "cable/ground_truth/broken/000_mask.png",)
    assert "did you mean bottle?" in error_of(MVTecLayout(tmp_path, "botle"))
    assert "choose from bottle, cable" in error_of(MVTecLayout(tmp_path))
