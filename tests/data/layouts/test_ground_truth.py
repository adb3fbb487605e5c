"""Which mask is whose, whatever it is called."""

import unicodedata
from pathlib import Path

import pytest

from anomap.data.layouts.folder import FolderLayout
from anomap.errors import UserError
from tests.data.helpers import make_dataset, save


def rename(root: Path, new: str) -> Path:
    """The mask of test/crack/01.png is called otherwise, and so is the kind of its file."""
    old, path = root / "ground_truth/crack/01_mask.png", root / "ground_truth" / new
    path.parent.mkdir(parents=True, exist_ok=True)
    return old.rename(path)


def masks(root: Path) -> dict[str, tuple[Path, ...]]:
    return {sample.name: sample.masks for sample in FolderLayout(root).scan().test}


def error_of(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        FolderLayout(root).scan()
    assert "\n" not in str(caught.value)
    return str(caught.value)


NAMES = """01.png 01.PNG 01_mask.bmp 01_mask.tif 01_mask.tiff 01_mask.jpg 01-mask.png 01_gt.png 01-gt.png 01_MASK.png
01_GT.PNG 01/a.png 01_mask/a.png"""


@pytest.mark.parametrize("name", NAMES.split())
def test_names_of_masks(tmp_path: Path, name: str) -> None:
    path = rename(make_dataset(tmp_path, abnormal=2, masks=True), f"crack/{name}")
    assert masks(tmp_path)["test/crack/01.png"] == (path,)
    assert masks(tmp_path)["test/crack/00.png"] == (tmp_path / "ground_truth/crack/00_mask.png",)
    assert masks(tmp_path)["test/0.normal/00.png"] == ()


def test_a_folder_of_masks_belongs_to_one_image(tmp_path: Path) -> None:
    root = make_dataset(tmp_path, abnormal=2, masks=True)
    rename(root, "crack/01/000.png")
    save(root / "ground_truth/crack/01/001.bmp")
    assert masks(root)["test/crack/01.png"] == tuple(
        root / f"ground_truth/crack/01/{x}" for x in ("000.png", "001.bmp")
    )


@pytest.mark.parametrize(("image", "mask"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_another_unicode_form_is_the_same_name(tmp_path: Path, image: str, mask: str) -> None:
    """As between files from a Mac and folders from Linux, in names of files and of folders."""
    root, name = make_dataset(tmp_path, masks=True), "Gehäuse é"
    written = {form: unicodedata.normalize(form, name) for form in (image, mask)}  # pyright: ignore[reportArgumentType]
    save(root / f"test/{written[image]}/{written[image]}.png")
    path = save(root / f"ground_truth/{written[mask]}/{written[mask]}_mask.png")
    assert masks(root)[f"test/{written[image]}/{written[image]}.png"] == (path,)


def test_upper_and_lower_case_are_the_same_unless_both_are_there(tmp_path: Path) -> None:
    root = make_dataset(tmp_path, masks=True)
    save(root / "test/crack/IMG_a.PNG")
    path = save(root / "ground_truth/Crack/img_A_mask.png")
    assert masks(root)["test/crack/IMG_a.PNG"] == (path,)
    save(root / "test/crack/img_a.png")
    assert "would share the mask" in error_of(root)
    path.rename(root / "ground_truth/crack/IMG_a_mask.png")
    save(root / "ground_truth/crack/img_a_mask.png")
    found = masks(root)
    assert found["test/crack/IMG_a.PNG"] == (root / "ground_truth/crack/IMG_a_mask.png",)
    assert found["test/crack/img_a.png"] == (root / "ground_truth/crack/img_a_mask.png",)


def test_two_masks_beside_each_other_are_in_doubt(tmp_path: Path) -> None:
    root = make_dataset(tmp_path, masks=True)
    save(root / "ground_truth/crack/01_mask.bmp")
    message = error_of(root)
    for part in ("01.png has 2 masks", "01_mask.bmp", "01_mask.png", "ground_truth/crack/01"):
        assert part in message


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    root = make_dataset(tmp_path, abnormal=2, masks=True)
    (root / "ground_truth/crack/01_mask.png").unlink()
    assert "01_mask.png" in error_of(root)


@pytest.mark.parametrize("name", ["00_mask.png", "00_GT.bmp", "00/1.png"])
def test_two_images_do_not_share_a_mask(tmp_path: Path, name: str) -> None:
    root = make_dataset(tmp_path, masks=True)
    save(root / "test/crack/00.bmp", seed=7)
    (root / "ground_truth/crack/00_mask.png").unlink()
    save(root / "ground_truth/crack" / name)
    message = error_of(root)
    for part in ("00.bmp", "00.png", name):
        assert part in message


def test_masks_of_normal_images_are_taken_where_they_are(tmp_path: Path) -> None:
    root = make_dataset(tmp_path, masks=True)
    path = save(root / "ground_truth/0.normal/02.png", 0)
    found = masks(root)
    assert found["test/0.normal/02.png"] == (path,)
    assert found["test/0.normal/01.png"] == ()
