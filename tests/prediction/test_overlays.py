"""Overlays stay in their folder and apart; the contact sheet shows what it is given."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomap.errors import UserError
from anomap.prediction.overlays import overlay_path, write_png

FOLDER = Path("/nowhere/overlays")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", "a.png"),
        ("2026.11.26 a.PNG", "2026.11.26 a.PNG"),
        ("a.jpg.png", "a.jpg.png.png"),
        ("line 2/a.jpg", "line 2/a.jpg.png"),
        ("../../etc/x.png", "__/__/etc/x.png"),
        ("/etc/x.png", "etc/x.png"),
        ("a/../b.png", "a/__/b.png"),
        ("..", "__.png"),
        ("back\\slash.png", "back_slash.png-61c82e8da7a3b3ee.png"),
    ],
)
def test_overlay_path(name: str, expected: str) -> None:
    assert overlay_path(FOLDER, name) == FOLDER / expected


@given(
    st.lists(st.text(min_size=1).filter(lambda part: part != "/"), min_size=1)
    .map("/".join)
    .filter(lambda n: n.strip("/."))
)
def test_no_name_leads_out(name: str) -> None:
    path = Path(os.path.normpath(overlay_path(FOLDER, name)))
    assert path.is_relative_to(FOLDER)
    assert path != FOLDER
    assert path.suffix.lower() == ".png"


def test_equal_stems_and_long_names_do_not_meet(tmp_path: Path) -> None:
    long = "x" * 251
    names = [
        "a.png",
        "a.jpg",
        "a.jpg.png",
        "a.jpg.png.png",
        "a.png.png",
        "a\\b.png",
        "a_b.png",
        f"{long}.png",
        f"{long}.bmp",
        "ü" * 125 + ".png",
    ]
    paths = [overlay_path(tmp_path, name) for name in names]
    assert len(set(paths)) == len(names)
    for path in paths:
        write_png(path, np.zeros((4, 4, 3), np.uint8))
        assert path.is_file()


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "overlays").mkdir()
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "overlays" / "sub")
    with pytest.raises(UserError, match="a link that leads out"):
        overlay_path(tmp_path / "overlays", "sub/deeper/a.png")
    # a link in the place of the file is replaced, not followed
    (tmp_path / "elsewhere" / "kept.png").write_text("kept")
    os.symlink(tmp_path / "elsewhere" / "kept.png", tmp_path / "overlays" / "a.png")
    write_png(overlay_path(tmp_path / "overlays", "a.png"), np.zeros((4, 4, 3), np.uint8))
    assert (tmp_path / "elsewhere" / "kept.png").read_text() == "kept"


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.png.png").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        write_png(tmp_path / "a.png.png", np.zeros((4, 4, 3), np.uint8))
