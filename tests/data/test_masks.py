"""What mask files mean, and what is said of those that do not mean what they seem to."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomap.data.masks import Masks, load_mask, read_masks
from anomap.data.reading import UnreadableImageError
from anomap.data.samples import Sample
from anomap.errors import UserError
from tests.data.helpers import png16, save, tiff

LIMIT = 10**6
TRUE = np.zeros((32, 48), bool)
TRUE[4:14, 8:30] = TRUE[20:23, 40:47] = True
ONES = TRUE.astype(np.uint8)


def jpeg(values: np.ndarray, quality: int = 75) -> np.ndarray:
    """What JPEG leaves of values."""
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def read(path: Path) -> tuple[np.ndarray, bool]:
    return load_mask(path, LIMIT)


def mode(image: Image.Image, path: Path) -> Path:
    image.save(path)
    return path


@pytest.mark.parametrize("values", [(0, 255), (0, 1), (0, 128), (128, 255), (1, 2), (7, 200)])
def test_of_two_values_the_higher_is_abnormal(tmp_path: Path, values: tuple[int, int]) -> None:
    low, high = values
    mask, grey = read(save(tmp_path / "m.png", np.where(TRUE, high, low).astype(np.uint8)))
    assert (mask == TRUE).all()
    assert not grey


@pytest.mark.parametrize("name", ["m.png", "m.tif", "m.bmp"])
def test_one_bit(tmp_path: Path, name: str) -> None:
    mask, grey = read(mode(Image.fromarray(TRUE), tmp_path / name))
    assert (mask == TRUE).all()
    assert not grey


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
def test_two_values_of_every_depth(tmp_path: Path, dtype: type) -> None:
    mask, grey = read(save(tmp_path / "m.tif", TRUE.astype(dtype)))
    assert (mask == TRUE).all()
    assert not grey


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_every_label_but_0_is_a_defect(tmp_path: Path, dtype: type) -> None:
    labels = ONES.astype(dtype) * (1 + np.arange(48) % 5).astype(dtype)
    mask, grey = read(save(tmp_path / "m.tif", labels))
    assert (mask == TRUE).all()
    assert not grey


def test_labels_of_a_palette_or_colours(tmp_path: Path) -> None:
    """VOC's third colour is darker than half of its fourth: no grey ones that could be cut."""
    labels = ONES * (1 + np.arange(48) % 4).astype(np.uint8)
    image = Image.fromarray(labels).convert("P")
    image.putdata(labels.ravel().tolist())
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 64, 0, 30, 30, 0, 224, 224, 192])
    for path in (mode(image, tmp_path / "p.png"), mode(image.convert("RGB"), tmp_path / "rgb.png")):
        mask, grey = read(path)
        assert (mask == TRUE).all()
        assert not grey


def test_the_palette_decides_which_index_is_black(tmp_path: Path) -> None:
    image = Image.fromarray(1 - ONES).convert("P")
    image.putdata((1 - ONES).ravel().tolist())
    image.putpalette([255, 255, 255, 0, 0, 0])
    mask, _ = read(mode(image, tmp_path / "m.png"))
    assert (mask == TRUE).all()


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("high", [255, 128])
@pytest.mark.parametrize("name", ["m.jpg", "m.png"])
def test_what_jpeg_adds_does_not_count(tmp_path: Path, name: str, high: int, quality: int) -> None:
    blurred = jpeg(ONES * np.uint8(high), quality)
    assert (blurred > 0).sum() > TRUE.sum() + 20  # every byte above 0 would mark much more
    path = tmp_path / name
    if name == "m.jpg":
        Image.fromarray(ONES * np.uint8(high)).save(path, quality=quality)
    else:
        save(path, blurred)
    mask, grey = read(path)
    assert (mask == TRUE).mean() > 0.99
    assert grey


def test_a_coloured_jpeg_is_cut_too(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([ONES * 255, ONES * 0, ONES * 0])).save(tmp_path / "m.jpg")
    mask, grey = read(tmp_path / "m.jpg")
    assert (mask == TRUE).mean() > 0.97
    assert grey


def test_a_jpeg_of_labels_is_refused(tmp_path: Path) -> None:
    Image.fromarray(ONES * np.uint8(3)).save(tmp_path / "m.jpg")
    with pytest.raises(UserError, match=r"m\.jpg is a JPEG with nothing brighter"):
        read(tmp_path / "m.jpg")
    Image.fromarray(ONES * 0).save(tmp_path / "m.jpg")
    assert not read(tmp_path / "m.jpg")[0].any()


def test_soft_edges_are_cut_at_half(tmp_path: Path) -> None:
    soft = np.asarray(Image.fromarray(ONES * np.uint8(255)).resize((96, 64), Image.Resampling.BICUBIC))
    mask, grey = read(save(tmp_path / "m.png", soft))
    assert (mask == (soft > 127.5)).all()
    assert grey


@pytest.mark.parametrize("colour", [0, 255])
@pytest.mark.parametrize("hidden", [0, 255])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_mask_drawn_in_alpha(tmp_path: Path, channels: int, hidden: int, colour: int) -> None:
    """What is under the transparent part, nobody sees, and nobody means."""
    colours = np.where(TRUE, colour, hidden).astype(np.uint8)
    path = save(tmp_path / "m.png", np.dstack([*[colours] * channels, ONES * np.uint8(255)]))
    mask, grey = read(path)
    assert (mask == TRUE).all()
    assert not grey


def test_a_mask_of_16_bits_drawn_in_the_alpha_of_a_tiff(tmp_path: Path) -> None:
    both = np.dstack([TRUE * 65535, np.where(ONES, 65535, 0)]).astype(np.uint16)
    (tmp_path / "m.tif").write_bytes(tiff(both, extra=[2]))
    assert (read(tmp_path / "m.tif")[0] == TRUE).all()


@pytest.mark.parametrize("alpha", [255, 0, 90])
def test_alpha_that_is_the_same_everywhere_says_nothing(tmp_path: Path, alpha: int) -> None:
    path = save(tmp_path / "m.png", np.dstack([*[ONES * np.uint8(255)] * 3, np.full_like(ONES, alpha)]))
    assert (read(path)[0] == TRUE).all()


def test_black_and_white_on_a_transparent_ground(tmp_path: Path) -> None:
    alpha = np.full_like(ONES, 255)
    alpha[:, :4] = 0  # a margin, white below
    colours = np.where(alpha > 0, ONES * 255, 255).astype(np.uint8)
    assert (read(save(tmp_path / "m.png", np.dstack([*[colours] * 3, alpha])))[0] == TRUE).all()


def test_a_transparent_entry_of_a_palette(tmp_path: Path) -> None:
    image = Image.fromarray(ONES).convert("P")
    image.putdata(ONES.ravel().tolist())
    image.putpalette([255, 0, 0, 255, 0, 0])
    image.save(tmp_path / "m.png", transparency=0)
    assert (read(tmp_path / "m.png")[0] == TRUE).all()


def test_labels_in_16_bit_colour_are_not_lost(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(png16(np.dstack([ONES * 2, ONES * 0, ONES * 0]).astype(np.uint16)))
    assert (read(tmp_path / "m.png")[0] == TRUE).all()


def test_what_cannot_be_a_mask_is_named(tmp_path: Path) -> None:
    values = TRUE.astype(np.float32)
    values[0, 0] = np.nan
    with pytest.raises(UnreadableImageError, match=r"m\.tif"):
        read(save(tmp_path / "m.tif", values))
    (tmp_path / "m.png").write_bytes(b"no image")
    with pytest.raises(UnreadableImageError, match=r"m\.png"):
        read(tmp_path / "m.png")


# --- the masks of a set ---


def made(folder: Path, *marks: np.ndarray | int | None, label: int = 1) -> list[Sample]:
    """Images of 32 x 48 with these masks: pixels, one grey value, or none."""
    samples = []
    for number, pixels in enumerate(marks):
        name = f"{label}{number}"
        save(folder / f"{name}.png", seed=number, size=(32, 48))
        path = None if pixels is None else save(folder / f"{name}_mask.png", pixels, (32, 48))
        samples.append(Sample(f"{name}.png", label, "x", folder, () if path is None else (path,)))
    return samples


def of(masks: Masks | None, sample: Sample) -> np.ndarray | None:
    assert masks is not None
    return masks.of(sample)


@pytest.mark.parametrize("budget", [0, 40, 10**6])
def test_masks_come_back_as_they_are_whatever_is_kept(tmp_path: Path, budget: int) -> None:
    noise = np.random.default_rng(0).random((32, 48)) < 0.4
    samples = [*made(tmp_path, ONES, noise.astype(np.uint8)), *made(tmp_path, None, 0, label=0)]
    masks = read_masks(samples, LIMIT, budget=budget)
    for sample, expected in zip(samples, (TRUE, noise, 0 * TRUE, 0 * TRUE), strict=True):
        found = of(masks, sample)
        assert found is not None
        assert found.dtype == bool
        assert (found == expected).all()


def test_several_masks_of_an_image_are_united(tmp_path: Path) -> None:
    (sample,) = made(tmp_path, ONES)
    other = save(tmp_path / "other.bmp", np.flipud(ONES) * np.uint8(255))
    both = Sample(sample.name, 1, "x", tmp_path, (*sample.masks, other))
    found = of(read_masks([both], LIMIT), both)
    assert (found == (TRUE | np.flipud(TRUE))).all()


def test_without_masks_there_is_nothing_to_know(tmp_path: Path) -> None:
    assert read_masks(made(tmp_path, None, None), LIMIT) is None


def test_grey_masks_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    masks = read_masks(made(tmp_path, ONES, jpeg(ONES * 255)), LIMIT)
    assert "1 mask(s) hold shades of grey" in caplog.text
    assert str(tmp_path / "11_mask.png") in caplog.text
    assert masks is not None
    assert "1 grey mask(s) were cut" in masks.note


def test_an_empty_mask_of_an_abnormal_image_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples = [*made(tmp_path, ONES, 0), *made(tmp_path, 0, label=0)]
    masks = read_masks(samples, LIMIT)
    assert [of(masks, sample) is None for sample in samples] == [False, True, False]
    (record,) = caplog.records
    assert record.getMessage() == "1 abnormal image(s) have an empty mask: 11.png"
    assert masks is not None
    assert "leave out 1 image(s) with an empty mask (11.png); 1 of 2 abnormal images are left" in masks.note
    nothing = read_masks(made(tmp_path, 0, 0), LIMIT)
    assert nothing is not None
    assert "no abnormal image is left" in nothing.note


def refused(samples: list[Sample], caplog: pytest.LogCaptureFixture) -> tuple[str, Masks]:
    """The error, and what is left with `skip`; the warning says the same."""
    with pytest.raises(UserError) as caught:
        read_masks(samples, LIMIT)
    message = str(caught.value)
    assert "\n" not in message
    masks = read_masks(samples, LIMIT, skip=True)
    assert message.split(";")[0] in caplog.text
    assert "on_error=skip" not in caplog.text  # which has been followed
    assert masks is not None
    return message, masks


def broken(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (broken, "cannot read image"),
        (lambda path: save(path, ONES[:8]), r"(8, 48)"),
        (lambda path: save(path, 1 - ONES * 0), "marks 100.0% of its image as abnormal: is it inverted?"),
        (Path.unlink, "No such file"),
    ],
)
def test_a_mask_that_cannot_be_used(tmp_path: Path, spoil, said: str, caplog: pytest.LogCaptureFixture) -> None:
    samples = made(tmp_path, ONES, ONES, ONES)
    spoil(samples[1].masks[0])
    message, masks = refused(samples, caplog)
    assert said in message
    assert str(samples[1].masks[0]) in message
    assert [masks.of(sample) is None for sample in samples] == [False, True, False]
    assert "1 image(s) with a mask that cannot be used (11.png); 2 of 3 abnormal" in masks.note


def test_masks_that_all_look_inverted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    inverted = made(tmp_path, *[1 - ONES] * 3)
    message, masks = refused(inverted, caplog)
    assert "all 3 masks mark more than half" in message
    assert (masks.of(inverted[0]) == ~TRUE).all()
    assert "with data.on_error=skip 3 of them count as they are" in message
    message, masks = refused(made(tmp_path, *[1 - ONES] * 2, 1 - ONES * 0), caplog)
    assert "with data.on_error=skip 2 of them count as they are" in message
    read_masks(made(tmp_path, 1 - ONES, 1 - ONES, ONES), LIMIT)  # large defects beside small ones may be meant
    read_masks(made(tmp_path, 1 - ONES, 1 - ONES), LIMIT)  # two say nothing about all


def test_a_mask_of_a_normal_image_marks_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples = [*made(tmp_path, ONES), *made(tmp_path, 0, ONES, label=0)]
    message, masks = refused(samples, caplog)
    assert "01_mask.png marks 15.7% of an image that is labelled normal" in message
    assert [masks.of(sample) is None for sample in samples] == [False, False, True]


def test_a_broken_image_is_not_blamed_on_its_mask(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples = made(tmp_path, ONES, ONES)
    (tmp_path / "11.png").write_bytes(b"broken")
    masks = read_masks(samples, LIMIT)
    assert not caplog.records
    assert of(masks, samples[1]) is None
