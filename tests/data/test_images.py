"""One file -> uint8 (C, H, W): depth, colour, orientation, size, and refusals."""

import struct
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anomap.data import images
from anomap.data.images import convert, load_image
from anomap.data.reading import UnreadableImageError, read_size
from anomap.errors import UserError

from .helpers import png16, save, tiff, tiff16

RNG = np.random.default_rng(7)
COLOUR = RNG.integers(0, 256, (6, 5, 3)).astype(np.uint8)
GREY = RNG.integers(0, 256, (6, 5)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (6, 5)).astype(np.uint16)
DEEP_COLOUR = RNG.integers(0, 65536, (6, 5, 3)).astype(np.uint16)
SIZE = (6, 5)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "tga", "jp2", "ppm"])
def test_lossless_formats_keep_every_value(tmp_path: Path, suffix: str) -> None:
    assert (load_image(save(tmp_path / f"x.{suffix}", COLOUR), 3, SIZE) == COLOUR.transpose(2, 0, 1)).all()
    grey = save(tmp_path / f"y.{suffix.replace('ppm', 'pgm')}", GREY)
    assert (load_image(grey, 1, SIZE) == GREY[None]).all()


@pytest.mark.parametrize("suffix", ["jpg", "jfif", "webp", "avif"])
def test_lossy_formats_are_read(tmp_path: Path, suffix: str) -> None:
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    read = load_image(save(tmp_path / f"x.{suffix}", flat), 3, (16, 16)).astype(int)
    assert np.abs(read - flat.transpose(2, 0, 1)).max() <= 6


def test_grey_becomes_three_equal_channels_and_colour_becomes_luma(tmp_path: Path) -> None:
    assert (load_image(save(tmp_path / "g.png", GREY), 3, SIZE) == GREY[None].repeat(3, 0)).all()
    luma = COLOUR @ np.array([0.299, 0.587, 0.114])
    read = load_image(save(tmp_path / "c.png", COLOUR), 1, SIZE)
    assert read.shape == (1, 6, 5)
    assert np.abs(read[0] - luma).max() <= 1


@pytest.mark.parametrize(("background", "level"), [("black", 0), ("white", 255)])
def test_hidden_colours_decide_nothing(tmp_path: Path, background: str, level: int) -> None:
    alpha = np.array([[0, 128, 255] * 2] * 5, np.uint8).T
    share = alpha / 255
    seen = COLOUR * share[..., None] + level * (1 - share[..., None])
    path = save(tmp_path / "rgba.png", np.dstack([COLOUR, alpha]))
    read = load_image(path, 3, SIZE, background=background).transpose(1, 2, 0)
    assert np.abs(read - seen).max() <= 0.51
    hidden = np.dstack([np.where(alpha[..., None] == 0, 255 - COLOUR, COLOUR), alpha])
    assert (load_image(save(path, hidden), 3, SIZE, background=background).transpose(1, 2, 0) == read).all()
    for suffix in ("png", "tif"):
        grey = tmp_path / f"la.{suffix}"
        Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)]).save(grey)
        read = load_image(grey, 1, SIZE, background=background)[0]
        assert np.abs(read - (GREY * share + level * (1 - share))).max() <= 0.51
    deep = np.dstack([DEEP_COLOUR, alpha.astype(np.uint16) * 257])
    (tmp_path / "deep.png").write_bytes(png16(deep))
    read = load_image(tmp_path / "deep.png", 3, SIZE, background=background).transpose(1, 2, 0)
    assert np.abs(read - (DEEP_COLOUR / 257 * share[..., None] + level * (1 - share[..., None]))).max() <= 0.51
    (tmp_path / "deep.tif").write_bytes(tiff(deep, extra=[2]))
    again = load_image(tmp_path / "deep.tif", 3, SIZE, background=background).transpose(1, 2, 0)
    assert np.abs(again.astype(int) - read).max() <= 1


def test_the_background_is_an_end_of_the_intensity_range_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images._told.clear()
    clear = np.dstack([DEEP_COLOUR // 16, np.zeros((6, 5), np.uint16)])
    (tmp_path / "x.png").write_bytes(png16(clear))
    for _ in range(2):
        assert (load_image(tmp_path / "x.png", 3, SIZE, (100, 4095), background="white") == 255).all()
    assert caplog.text.count("transparent") == 1
    opaque = np.dstack([COLOUR, np.full((6, 5), 255, np.uint8)])
    assert (load_image(save(tmp_path / "y.png", opaque), 3, SIZE) == COLOUR.transpose(2, 0, 1)).all()


def test_palette_and_one_bit_images(tmp_path: Path) -> None:
    indices = Image.fromarray((GREY % 2).astype(np.uint8), "L").convert("P")
    indices.putpalette([10, 20, 30, 200, 100, 50])
    indices.save(tmp_path / "p.png", transparency=1)
    expected = np.where(
        (GREY % 2)[None] == 1, np.array([0, 0, 0])[:, None, None], np.array([10, 20, 30])[:, None, None]
    )  # the entry 1 is transparent
    assert (load_image(tmp_path / "p.png", 3, SIZE) == expected).all()
    Image.fromarray(GREY > 127).save(tmp_path / "b.png")
    assert (load_image(tmp_path / "b.png", 1, SIZE)[0] == np.where(GREY > 127, 255, 0)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    shown = np.kron(np.array([[0, 60, 120], [180, 210, 255]], np.uint8), np.ones((16, 16), np.uint8))
    inverse = {1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1]}
    inverse |= {
        5: lambda x: x.T,
        6: lambda x: np.rot90(x),
        7: lambda x: x[::-1, ::-1].T,
        8: lambda x: np.rot90(x, -1),
    }
    stored = Image.fromarray(np.ascontiguousarray(inverse[orientation](shown)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"x.{suffix}", exif=exif)
    read = load_image(tmp_path / f"x.{suffix}", 1, (32, 48))[0].astype(int)
    assert np.abs(read - shown).max() <= 3
    assert read_size(tmp_path / f"x.{suffix}", 10**6) == (32, 48)  # which a mask must have


def test_sixteen_bit_grey_is_scaled_by_the_range_of_the_type(tmp_path: Path) -> None:
    expected = np.rint(DEEP / 257.0)
    for name in ("x.png", "x.tif"):
        assert (load_image(save(tmp_path / name, DEEP), 1, SIZE)[0] == expected).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bit_png_of_every_colour_type(tmp_path: Path, channels: int) -> None:
    values = RNG.integers(0, 65536, (6, 5, channels)).astype(np.uint16)
    if channels in (2, 4):
        values[..., -1] = 65535  # opaque
    path = tmp_path / "x.png"
    path.write_bytes(png16(values))
    colours = values[..., :1].repeat(3, 2) if channels <= 2 else values[..., :3]
    assert (load_image(path, 3, SIZE) == np.rint(colours / 257.0).transpose(2, 0, 1)).all()
    # A narrow range shows that the lower 8 bits are there.
    low, high = 30_000, 30_300
    narrow = np.rint(np.clip((colours.astype(float) - low) / (high - low), 0, 1) * 255)
    assert (load_image(path, 3, SIZE, (low, high)) == narrow.transpose(2, 0, 1)).all()


def test_intensity_range_is_fixed_and_clips(tmp_path: Path) -> None:
    values = np.array([[0, 1000, 2000], [3000, 4095, 60000]], np.uint16)
    read = load_image(save(tmp_path / "x.png", values), 1, (2, 3), (1000, 3000))[0]
    assert read.tolist() == [[0, 0, 128], [255, 255, 255]]
    eight = load_image(save(tmp_path / "y.png", np.array([[50, 100, 150]], np.uint8)), 1, (1, 3), (50, 150))[0]
    assert eight.tolist() == [[0, 128, 255]]


def test_a_dark_image_stays_dark(tmp_path: Path) -> None:
    assert load_image(save(tmp_path / "x.png", (DEEP // 64)), 1, SIZE).max() <= 4


def test_twelve_bit_and_inverted_tiff(tmp_path: Path) -> None:
    values = np.array([[0, 1024, 2048, 4095], [1, 2, 3, 4]], np.uint16)
    (tmp_path / "x.tif").write_bytes(tiff16(values, bits=12))
    assert load_image(tmp_path / "x.tif", 1, (2, 4))[0, 0].tolist() == [0, 64, 128, 255]
    (tmp_path / "y.tif").write_bytes(tiff16(DEEP, photometric=0))
    assert (load_image(tmp_path / "y.tif", 1, SIZE)[0] == np.rint((65535 - DEEP) / 257.0)).all()


@pytest.mark.parametrize("order", "<>")
def test_sixteen_bit_colour_tiff_in_full_depth(tmp_path: Path, order: str) -> None:
    (tmp_path / "x.tif").write_bytes(tiff16(DEEP_COLOUR, order=order))
    assert (load_image(tmp_path / "x.tif", 3, SIZE) == np.rint(DEEP_COLOUR / 257.0).transpose(2, 0, 1)).all()
    narrow = np.rint(np.clip((DEEP_COLOUR - 30_000.0) / 300, 0, 1) * 255).transpose(2, 0, 1)
    assert (load_image(tmp_path / "x.tif", 3, SIZE, (30_000, 30_300)) == narrow).all()


def test_compressed_sixteen_bit_colour_tiff(tmp_path: Path) -> None:
    (tmp_path / "x.tif").write_bytes(tiff16(DEEP_COLOUR, deflate=True))
    narrow = np.rint(np.clip((DEEP_COLOUR - 30_000.0) / 300, 0, 1) * 255).transpose(2, 0, 1)
    assert (load_image(tmp_path / "x.tif", 3, SIZE, (30_000, 30_300)) == narrow).all()


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "f2", "f4", "f8"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bands", [1, 3])
def test_every_sample_type_of_tiff_keeps_its_values(
    tmp_path: Path, kind: str, order: Literal["<", ">"], bands: int
) -> None:
    values = np.linspace(-100, 100, 30 * bands).reshape(6, 5, bands)
    if kind[0] == "u":
        values += 100
    values = values.astype(kind)
    (tmp_path / "x.tif").write_bytes(tiff(values, order=order))
    low, high = float(values.min()), float(values.max())
    expected = np.rint((values.astype(float) - low) / (high - low) * 255).transpose(2, 0, 1)
    read = load_image(tmp_path / "x.tif", bands, SIZE, (low, high)).astype(int)
    assert np.abs(read - expected).max() <= (1 if kind == "f2" else 0.01)
    if kind in ("i1", "i2"):  # without a range, that of the type: nothing wraps around
        span = np.iinfo(kind)
        whole = np.rint((values.astype(float) - span.min) / (span.max - span.min) * 255).transpose(2, 0, 1)
        assert (load_image(tmp_path / "x.tif", bands, SIZE) == whole).all()


def test_grey_tiff_of_few_bits_and_inverted(tmp_path: Path) -> None:
    Image.fromarray(GREY > 127).save(tmp_path / "bit.tif")
    assert (load_image(tmp_path / "bit.tif", 1, SIZE)[0] == np.where(GREY > 127, 255, 0)).all()
    for kind in ("u1", "i1", "u2", "u4"):
        values = (GREY // 2).astype(kind)[..., None]
        (tmp_path / "x.tif").write_bytes(tiff(values, photometric=0))
        top, low = float(np.iinfo(kind).max), float(np.iinfo(kind).min)
        span = (top - 127, top) if kind != "i1" else (low, low + 127)
        read = load_image(tmp_path / "x.tif", 1, SIZE, span)[0].astype(int)
        shown = (top - values[..., 0].astype(float) if kind != "i1" else -1.0 - values[..., 0]) - span[0]
        assert np.abs(read - np.rint(np.clip(shown / 127, 0, 1) * 255)).max() <= 1


@pytest.mark.parametrize("bands", [2, 5])
@pytest.mark.parametrize("planar", [False, True])
def test_bands_are_counted_and_chosen(tmp_path: Path, bands: int, planar: bool) -> None:
    values = RNG.integers(0, 256, (6, 5, bands)).astype(np.uint8)
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(values, planar=planar, extra=[0] * (bands - 1)))
    advice = r"choose one: data\.bands=\[0\]" if bands == 2 else r"data\.bands=\[0,1,2\]"
    with pytest.raises(UserError, match=rf"x\.tif has {bands} bands.*{advice}"):
        load_image(path, 1, SIZE)
    assert (load_image(path, 1, SIZE, bands=[1])[0] == values[..., 1]).all()
    if bands == 5:
        assert (load_image(path, 3, SIZE, bands=[0, 2, 4]) == values[..., [0, 2, 4]].transpose(2, 0, 1)).all()
    with pytest.raises(UserError, match=r"x\.tif has .* asks for more"):
        load_image(path, 1, SIZE, bands=[bands])
    assert (load_image(save(tmp_path / "c.png", COLOUR), 1, SIZE, bands=[2])[0] == COLOUR[..., 2]).all()


def test_a_fourth_band_is_not_dropped(tmp_path: Path) -> None:
    values = RNG.integers(0, 256, (6, 5, 4)).astype(np.uint8)
    (tmp_path / "x.tif").write_bytes(tiff(values))
    with pytest.raises(UserError, match=r"has 4 bands.*data\.bands=\[0,1,2\]"):
        load_image(tmp_path / "x.tif", 3, SIZE)
    shown = load_image(tmp_path / "x.tif", 3, SIZE, bands=[0, 1, 3])
    assert (shown == values[..., [0, 1, 3]].transpose(2, 0, 1)).all()


def test_planar_compressed_and_predicted_tiff(tmp_path: Path) -> None:
    for planar in (False, True):
        for predictor in (1, 2):
            (tmp_path / "x.tif").write_bytes(tiff(DEEP_COLOUR, planar=planar, predictor=predictor, deflate=True))
            assert (load_image(tmp_path / "x.tif", 3, SIZE) == np.rint(DEEP_COLOUR / 257.0).transpose(2, 0, 1)).all()


def test_special_tiff_is_checked_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(np.zeros((100, 100, 1))))
    with pytest.raises(UnreadableImageError, match=r"x\.tif has 100 x 100 pixels.*data\.max_pixels=9999"):
        load_image(path, 1, (8, 8), max_pixels=9999)
    path.write_bytes(path.read_bytes()[: -8 - 4] + bytes(12))
    with pytest.raises(UserError, match=r"x\.tif"):
        load_image(path, 1, (8, 8))


def test_twelve_bits_in_a_portable_graymap(tmp_path: Path) -> None:
    values = np.array([[0, 1024, 2048], [4095, 1, 2]], np.uint16)
    (tmp_path / "x.pgm").write_bytes(b"P5 3 2 4095\n" + values.astype(">u2").tobytes())
    assert load_image(tmp_path / "x.pgm", 1, (2, 3))[0].tolist() == [[0, 64, 128], [255, 0, 0]]
    assert load_image(tmp_path / "x.pgm", 1, (2, 3), (0, 2))[0, 1].tolist() == [255, 128, 255]


def test_float_tiff_needs_a_range(tmp_path: Path) -> None:
    values = np.linspace(-1, 1, 30, dtype=np.float32).reshape(6, 5)
    path = save(tmp_path / "x.tif", values)
    with pytest.raises(UserError, match=r"float32.*data\.intensity_range"):
        load_image(path, 1, SIZE)
    assert (load_image(path, 1, SIZE, (-1, 1))[0] == np.rint((values + 1) * 127.5)).all()
    values[2, 2] = np.nan
    with pytest.raises(UnreadableImageError, match="not finite"):
        load_image(save(path, values), 1, SIZE, (-1, 1))


def test_thirty_two_bit_integers_need_a_range(tmp_path: Path) -> None:
    values = np.array([[0, 1_000_000], [2_000_000, 3_000_000]], np.int32)
    path = save(tmp_path / "x.tif", values)
    with pytest.raises(UserError, match="int32"):
        load_image(path, 1, (2, 2))
    assert load_image(path, 1, (2, 2), (0, 2_000_000))[0].tolist() == [[0, 128], [255, 255]]


def test_resize_is_antialiased_at_every_depth(tmp_path: Path) -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    for values in (stripes, stripes.astype(np.uint16) * 257):
        small = load_image(save(tmp_path / "x.png", values), 1, (8, 8))[0].astype(int)
        assert np.abs(small[:, 1:-1] - 127.5).max() <= 2


def test_eight_and_sixteen_bits_agree_after_the_resize() -> None:
    wide = np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype(np.uint8)
    for channels in (1, 3):
        shallow = convert(wide, channels, (16, 12)).astype(int)
        deep = convert(wide.astype(np.uint16) * 257, channels, (16, 12), (0.0, 65535.0)).astype(int)
        assert np.abs(shallow - deep).max() <= 1


@given(st.integers(0, 65535), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_a_flat_image_stays_flat(value: int, height: int, width: int, new_height: int, new_width: int) -> None:
    flat = np.full((height, width), value, np.uint16)
    read = convert(flat, 3, (new_height, new_width), (0.0, 65535.0))
    assert read.shape == (3, new_height, new_width)
    assert (read == np.rint(value / 257.0)).all()


def test_too_many_pixels_is_refused_by_the_header(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", size=(100, 100))
    path.write_bytes(path.read_bytes()[:60])  # only the header is sound: decoding would fail otherwise
    with pytest.raises(UnreadableImageError, match=r"x\.png has 100 x 100 pixels.*data\.max_pixels=9999"):
        load_image(path, 1, (8, 8), max_pixels=9999)


def test_a_raised_limit_holds_beyond_pillows_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    path = save(tmp_path / "x.png", size=(60, 50))
    assert load_image(path, 1, (60, 50), max_pixels=3000).shape == (1, 60, 50)
    with pytest.raises(UnreadableImageError, match=r"data\.max_pixels=2999"):
        load_image(path, 1, (8, 8), max_pixels=2999)


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    header = png16(np.zeros((1, 1, 1), np.uint16))
    size = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 16, 0, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(header[:12] + size + struct.pack(">I", zlib.crc32(size)) + header[33:])
    with pytest.raises(UnreadableImageError, match=r"bomb\.png is too large"):
        load_image(tmp_path / "bomb.png", 1, (8, 8))


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "bmp", "webp"])
def test_truncated_and_broken_files_are_named_in_one_line(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"x.{suffix}", seed=1, size=(64, 64))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not an image", b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        path.write_bytes(content)
        with pytest.raises(UnreadableImageError) as caught:
            load_image(path, 1, (8, 8))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_truncated_sixteen_bit_png(tmp_path: Path) -> None:
    encoded = png16(RNG.integers(0, 65536, (32, 32, 3)).astype(np.uint16))
    (tmp_path / "x.png").write_bytes(encoded[: len(encoded) // 2])
    with pytest.raises(UnreadableImageError, match=r"x\.png"):
        load_image(tmp_path / "x.png", 3, (8, 8))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="No such file"):
        load_image(tmp_path / "x.png", 1, (8, 8))


def test_several_pages_are_refused(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "x.tif", save_all=True, append_images=[Image.fromarray(GREY)])
    with pytest.raises(UnreadableImageError, match=r"2 pages .*on_error=skip"):
        load_image(tmp_path / "x.tif", 1, SIZE)


def test_files_of_fewer_bits_than_the_range_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A detector of 12-bit images is shown 8-bit ones."""
    images._told.clear()
    for name in ("a", "b"):
        Image.fromarray(np.full((4, 4), 200, np.uint8)).save(tmp_path / f"{name}.png")
        images.load_image(tmp_path / f"{name}.png", 1, (4, 4), (0.0, 4095.0))
    assert caplog.text.count("holds values up to 255, and is read with data.intensity_range=[0,4095]") == 1
    caplog.clear()
    images.load_image(tmp_path / "a.png", 1, (4, 4), (0.0, 250.0))
    assert not caplog.text


def test_a_dark_file_of_many_bits_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A detector of 8-bit images is shown 12 bits in 16."""
    images._told.clear()
    for name in ("a", "b"):
        Image.fromarray(np.full((4, 4), 3000, np.uint16)).save(tmp_path / f"{name}.png")
        images.load_image(tmp_path / f"{name}.png", 1, (4, 4))
    assert caplog.text.count("uses 4.6 % of the range of its type") == 1
    caplog.clear()
    images._told.clear()
    images.load_image(tmp_path / "a.png", 1, (4, 4), (0.0, 4095.0))
    assert not caplog.text


@pytest.mark.parametrize(("colour", "count"), [((200, 30, 30), 1), ((90, 90, 90), 0), ((90, 96, 92), 0)])
def test_colour_that_is_read_as_grey_is_told_once(
    colour: tuple[int, int, int], count: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images._told.clear()
    Image.new("RGB", (20, 20), colour).save(tmp_path / "a.png")
    for _ in range(2):
        images.load_image(tmp_path / "a.png", 1, (4, 4))
    images.load_image(tmp_path / "a.png", 3, (4, 4))
    assert caplog.text.count("are in colour and are read as grey") == count
