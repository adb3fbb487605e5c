"""What is an image by its name, what is left out, and names as a line of a log shows them."""

import os
from pathlib import Path

import pytest
from PIL import Image

from anomap.data.files import EXTENSIONS, find_images, is_image, shorten, walk
from anomap.data.reading import FORMATS

# What Pillow knows and no camera, scanner or program for images writes; some of these would start external programs.
NOT_READ = frozenset(
    """.avifs .blp .bufr .bw .cur .dcx .dds .emf .eps .fit .fits .flc .fli .ftc .ftu .gbr .grib .h5 .hdf .icb .icns .ico .iim
    .im .j2c .jpc .jpf .mpeg .mpg .msp .palm .pcd .pcx .pdf .ps .psd .pxr .qoi .ras .rgb .rgba .sgi .vda .vst .wmf .xbm
    .xpm""".split()  # noqa: SIM905
)


def test_every_format_of_pillow_is_read_or_left_out_on_purpose() -> None:
    Image.init()
    known = Image.registered_extensions()
    assert known.keys() - NOT_READ <= EXTENSIONS
    assert not NOT_READ & EXTENSIONS
    assert {known[extension] for extension in EXTENSIONS & known.keys()} <= {*FORMATS, "MPO"}  # which is opened as JPEG


@pytest.mark.parametrize("name", ["a.JFIF", "b/c.jpe", "d.Tiff", "e.gif", "f.pgm"])
def test_an_image_by_its_name(name: str) -> None:
    assert is_image(name)


@pytest.mark.parametrize("name", ["a.txt", ".a.png", "b/.a.png", "png", "a.png.part", "a.eps"])
def test_no_image_by_its_name(name: str) -> None:
    assert not is_image(name)


def test_reasons(tmp_path: Path) -> None:
    for name in (
        "a.png",
        "x/b.png",
        "x/.c.png",
        "@eaDir/d/e.png",
        "__MACOSX/._a.png",
        "$RECYCLE.BIN/f.png",
        "Thumbs.db",
        "._g.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    os.symlink(tmp_path / "loop.png", tmp_path / "loop.png")
    os.symlink(tmp_path / "x", tmp_path / "y")
    assert dict(walk(tmp_path)) == {
        "a.png": None,
        "x/b.png": None,
        "x/.c.png": "hidden",
        "@eaDir/d/e.png": "in @eaDir",
        "__MACOSX/._a.png": "in __MACOSX",
        "$RECYCLE.BIN/f.png": "in $RECYCLE.BIN",
        "Thumbs.db": "of the operating system",
        "._g.png": "of the operating system",
        "loop.png": None,  # was meant as an image: reading it says what is wrong
        "y": "links to folders",
    }
    assert find_images(tmp_path) == ["a.png", "loop.png", "x/b.png"]


def test_names_that_no_terminal_shows_are_escaped() -> None:
    assert shorten([os.fsdecode(b"a\xff.png"), "b\nc.png", "zo\xeb.png"]) == "a\\udcff.png, b\\nc.png, zo\xeb.png"
