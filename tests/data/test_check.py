"""What is said of a data set before anything is trained: every kind of doubt, and none of a sound one."""

import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomap.data.check import Check, examine, heard
from anomap.data.differences import differences, doubts, mixed_shapes
from anomap.data.masks import read_masks
from anomap.data.near_copies import find_near_copies
from anomap.data.samples import ABNORMAL, NORMAL, Sample, Scan
from anomap.data.shrink import largest_piece, lost_defects, shrink_factors, smallest_surviving
from anomap.errors import UserError
from tests import tiny
from tests.data.helpers import save

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def blobs(seed: int, size: tuple[int, int] = (60, 80)) -> Bytes:
    """A smooth random image (H, W)."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 8)).astype(np.uint8)
    return np.asarray(Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """30 normal images, 5 normal and 4 abnormal to test, of one kind and size, with masks of a 12 x 10 defect."""
    for number in range(30):
        save(tmp_path / f"train/good/{number:02d}.png", blobs(number))
    for number in range(5):
        save(tmp_path / f"test/good/{number}.png", blobs(100 + number))
    for number in range(4):
        mask = np.zeros((60, 80), np.uint8)
        mask[20:32, 30:40] = 255
        save(tmp_path / f"test/crack/{number}.png", np.where(mask > 0, 0, blobs(200 + number)).astype(np.uint8))
        save(tmp_path / f"ground_truth/crack/{number}_mask.png", mask)
    return tmp_path


def look(root: Path, *overrides: str, pixels: int = 100) -> Check:
    """What is found with a network of 32 x 32 pixels."""
    data = tiny.config(f"data.root={root}", "data.channels=auto", *overrides)["data"]
    return examine(data, pixels)


def test_a_sound_set_has_no_warning_and_its_numbers_are_right(root: Path) -> None:
    found = look(root)
    assert (found.warnings, found.settings) == ([], {})
    facts = found.facts
    assert facts["n_train"] == 30 - int(facts["n_calibration"] or 0)
    assert (facts["n_test_normal"], facts["n_test_abnormal"], facts["n_masks"]) == (5, 4, 4)
    assert (facts["smallest"], facts["largest"], facts["n_sizes"]) == ("80x60", "80x60", 1)
    assert facts["shrink"] == 80 / 32
    assert facts["smallest_surviving"] == 4 * 80 / 32
    assert facts["smallest_defect"] == pytest.approx(2 * (120 / np.pi) ** 0.5)
    assert (facts["grey"], facts["value_type"], facts["n_looked_at"]) == (1, "uint8", 39)
    assert "data.channels=1 by auto" in found.rows["colour"]


def test_it_accounts_for_what_is_left_out(root: Path) -> None:
    (root / "train/good/notes.txt").touch()
    assert look(root).rows["left out"] == "1 .txt (train/good/notes.txt)"


def copy(root: Path) -> None:
    shutil.copy(root / "train/good/03.png", root / "train/good/copy.png")


def trained(root: Path) -> None:
    shutil.copy(root / "train/good/03.png", root / "test/good/seen.png")


def again(root: Path) -> None:
    save(root / "train/good/again.png", np.clip(blobs(7).astype(int) + 1, 0, 255).astype(np.uint8))


def tested_again(root: Path) -> None:
    save(root / "test/good/again.png", np.clip(blobs(7).astype(int) + 1, 0, 255).astype(np.uint8))


def broken(root: Path) -> None:
    (root / "train/good/30.png").write_bytes((root / "train/good/07.png").read_bytes()[:400])


def no_header(root: Path) -> None:
    (root / "train/good/30.png").write_bytes(b"no image")


def empty_mask(root: Path) -> None:
    save(root / "ground_truth/crack/0_mask.png", 0, (60, 80))


def wrong_mask(root: Path) -> None:
    save(root / "ground_truth/crack/0_mask.png", 255, (30, 40))


def grey_mask(root: Path) -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[20:32, 30:40] = np.arange(100, 220)[:120].reshape(12, 10)
    save(root / "ground_truth/crack/0_mask.png", mask)


def speck(root: Path) -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[20:23, 30:33] = 255
    save(root / "ground_truth/crack/0_mask.png", mask)


def jpeg(root: Path) -> None:
    for path in (root / "test/crack").iterdir():
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()


def larger_tests(root: Path) -> None:
    for number in range(5):
        save(root / f"test/good/{number}.png", blobs(100 + number, (66, 88)))


def shapes(root: Path) -> None:
    save(root / "train/good/30.png", blobs(99, (20, 80)))


def twelve_bits(root: Path) -> None:
    for path in root.rglob("*.png"):
        if "ground_truth" not in path.parts:
            Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16) * 16).save(path)


def floats(root: Path) -> None:
    for path in [*root.glob("train/*/*.png"), *root.glob("test/*/*.png")]:
        Image.fromarray(np.asarray(Image.open(path)) / np.float32(255)).save(path.with_suffix(".tif"))
        path.unlink()


def coloured_test(root: Path) -> None:
    save(root / "test/good/0.png", np.stack([blobs(1), blobs(2), blobs(3)], 2))


CASES: list[tuple[Any, str, dict[str, str]]] = [
    (copy, "1 of 31 normal images are copies of others, byte for byte", {}),
    (trained, "1 training image(s) are also in the test set, byte for byte", {"data.on_error": "skip"}),
    (again, "1 normal images look like others, saved again: train/good/again.png = train/good/07.png", {}),
    (tested_again, "1 test images look like normal images, saved again: test/good/again.png = train/good/07.png", {}),
    (broken, "files looked at cannot be read", {"data.on_error": "skip"}),
    (no_header, "1 of 40 files cannot be read", {"data.on_error": "skip"}),
    (empty_mask, "1 abnormal image(s) have an empty mask", {}),
    (wrong_mask, "1 mask(s) cannot be used", {"data.on_error": "skip"}),
    (grey_mask, "1 mask(s) hold shades of grey", {}),
    (speck, "1 of 4 masked defects are less than 4 pixels across as the network sees them, the smallest 1.4 (3 in", {}),
    (jpeg, "normal test images are .png and abnormal ones .jpg", {}),
    (larger_tests, "training images have 80 x 60 and normal test images 88 x 66", {}),
    (shapes, "photographs of different shapes (width by height 1.3 to 4)", {}),
    (twelve_bits, "the training files use 6.2% of their range", {"data.intensity_range": "[0,4095]"}),
    (floats, "float32 values have no natural range", {"data.intensity_range": "auto"}),
    (coloured_test, "but 1 of 9 test images looked at are in colour", {}),
]


@pytest.mark.thorough
@pytest.mark.parametrize(("spoil", "said", "settings"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_wrong_is_said_once_with_what_to_set(
    spoil: Any, said: str, settings: dict[str, str], root: Path
) -> None:
    spoil(root)
    found = look(root)
    assert len([line for line in found.warnings if said in line]) == 1, found.warnings
    assert found.settings == settings
    assert not any("\n" in line for line in found.warnings)


def test_large_photographs_are_told_what_tiles_keep(tmp_path: Path) -> None:
    for number in range(12):
        save(tmp_path / f"{number}.png", blobs(number, (200, 300)))
    found = look(tmp_path)
    assert any("data.tile=auto keeps their size" in line for line in found.warnings)
    assert found.settings == {"data.tile": "auto"}
    assert found.facts["smallest_surviving"] == 4 * 300 / 32
    tiled = look(tmp_path, "data.tile=auto")
    assert tiled.settings == {}
    assert tiled.facts["smallest_surviving"] == 4
    assert "tiles of 32 pixels (auto)" in tiled.rows["shrunk"]


def test_grey_images_that_are_read_as_colour(root: Path) -> None:
    assert look(root, "data.channels=3").settings == {"data.channels": "1"}


def test_pixels_of_a_sample_only_are_looked_at_and_it_says_so(root: Path) -> None:
    found = look(root, pixels=20)
    assert found.facts["n_looked_at"] == 20
    assert "20 looked at, of 39 images" in found.rows["copies"]


def test_what_no_training_could_begin_with_is_an_error(root: Path) -> None:
    save(root / "test/crack/9.png", blobs(5))
    with pytest.raises(UserError, match="has no mask"):
        look(root)
    with pytest.raises(UserError, match="calibration_fraction=2"):
        look(root, "data.calibration_fraction=2")


def test_warnings_are_heard_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    lines: list[str] = []
    log = logging.getLogger("anomap.data.anything")
    with heard(lines):
        log.warning("of %d", 3)
        log.info("unheard")
    assert lines == ["of 3"]
    assert not caplog.records
    log.warning("again logged")
    assert len(caplog.records) == 1


# --- parts ---


def test_shrink_factors_are_those_of_the_squeeze_or_the_scale() -> None:
    assert shrink_factors((1500, 2000), {"image_size": 250}) == (6, 8)
    assert shrink_factors((1500, 2000), {"image_size": [500, 250], "tile": None}) == (3, 8)
    assert shrink_factors((1500, 2000), {"image_size": 256, "tile": 256, "scale": 0.5}) == (2, 2)
    assert shrink_factors((1500, 2000), {"image_size": 125, "tile": None, "scales": [1, 2]}) == (6, 8)
    assert smallest_surviving((1500, 2000), {"image_size": 250}) == 32
    assert smallest_surviving((20, 20), {"image_size": 250}) == 4  # enlarging brings nothing


def test_a_mask_counts_by_its_largest_piece() -> None:
    mask = np.zeros((40, 40), np.bool_)
    assert largest_piece(mask) == 0
    mask[2:4, 2:4] = mask[20:30, 20:30] = True
    assert largest_piece(mask) == pytest.approx(2 * (100 / np.pi) ** 0.5)


def test_a_training_is_told_the_same_of_masks_and_sets(root: Path) -> None:
    speck(root)
    jpeg(root)
    data = tiny.config(f"data.root={root}")["data"]
    from anomap.data.settle import settle

    _, found = settle({"data": data})
    masks = read_masks(found.test, 10**8)
    heard_by_check = look(root).warnings
    said = lost_defects(found.test, masks, data)
    assert said in heard_by_check
    lines = doubts(found, data)
    assert lines
    assert {*lines} <= {*heard_by_check}


def test_many_kinds_of_files_say_nothing() -> None:
    """Crops of all sizes are apart by chance."""

    def scan(kinds: str) -> Scan:
        train = [Sample(f"t{n}.png", NORMAL, "good", Path()) for n in range(4)]
        return Scan(train, [Sample(f"a{n}.{kind}", ABNORMAL, "x", Path()) for n, kind in enumerate(kinds.split())])

    normal = [Sample("n.png", NORMAL, "good", Path())]
    few, many = scan("bmp gif"), scan("bmp gif tif jpg")
    assert len(differences(Scan(few.train, [*normal, *few.test]), {})) == 1
    assert not differences(Scan(many.train, [*normal, *many.test]), {})


def test_shapes_are_mixed_only_where_they_are_squeezed() -> None:
    sizes = [(100, 100), (100, 160)]
    assert mixed_shapes(sizes, {"tile": None})
    assert not mixed_shapes(sizes, {"tile": 32})
    assert not mixed_shapes(sizes[:1], {"tile": None})


def test_near_copies_within_a_set_are_found_once_from_the_later_side() -> None:
    images = np.stack([blobs(number)[None] for number in range(20)])
    images[13] = np.clip(images[4].astype(int) + 1, 0, 255)
    found = find_near_copies(images)
    assert [(pair.image, pair.other) for pair in found] == [(13, 4)]
    images[13] = images[4]
    assert [(pair.image, pair.other) for pair in find_near_copies(images)] == [(13, 4)]
    assert not find_near_copies(images[:13])
