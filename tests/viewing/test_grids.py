"""Figures made of images: each row says what was decided, and every picture has its column."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager, get_font
from matplotlib.text import Text
from PIL import Image

from anomap.runs.scores import ScoreRow
from anomap.viewing import fonts
from anomap.viewing.figures import save_figure
from anomap.viewing.grids import Tile, attention_map_grid, contact_sheet, worst_mistakes
from anomap.viewing.pixels import Picture

PAIRS = [(1, 0.1), (1, 0.9), (0, 0.8), (0, 0.2)]  # missed, caught, false alarm, passed
ROWS = [ScoreRow.decide(f"$a$/{i}\n.png", label, "crack", score, 0.5) for i, (label, score) in enumerate(PAIRS)]


def _texts(figure: Figure) -> str:
    return "\n".join(artist.get_text() for artist in figure.findobj(Text))  # type: ignore[attr-defined]


def _pictures(**more: Any) -> list[Picture]:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (4, 1, 16, 24), np.uint8)
    return [Picture(image, generator.random((16, 24)), **more) for image in images]


@pytest.mark.parametrize(
    ("more", "columns"),
    [
        ({}, ["image", "anomaly map", "overlay"]),
        ({"mask": np.ones((1, 16, 24))}, ["image", "anomaly map", "overlay", "truth"]),
        (
            {"attention_map": np.ones((1, 16, 24)), "restored": np.zeros((1, 16, 24), np.uint8)},
            ["image", "attention map", "anomaly map", "overlay", "restored"],
        ),
    ],
)
def test_grid_has_a_row_per_image_and_a_column_per_view(tmp_path: Path, more: dict, columns: list[str]) -> None:
    figure = attention_map_grid(ROWS, _pictures(**more), (0.0, 2.0), 0.5)
    drawn = [axes for axes in figure.axes if axes.images]
    assert len(drawn) == 4 * len(columns) + sum(column.endswith("map") for column in columns)  # and their scales
    assert [axes.get_title() for axes in drawn[: len(columns)]] == columns
    text = _texts(figure)
    assert "$a$/0?.png" in text
    assert [word for word in text.split("\n") if word in ("missed", "caught", "false alarm", "passed")] == [
        *("missed", "caught", "false alarm", "passed")
    ]
    assert "score 0.8" in text
    save_figure(figure, tmp_path / "grid.png", dpi=40)
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.height > 100


def test_a_picture_without_truth_leaves_its_place_empty() -> None:
    first, second, *_ = _pictures()
    with_mask = Picture(second.image, second.anomaly_map, np.ones((16, 24)))
    figure = attention_map_grid(ROWS[:2], [first, with_mask], (0, 1))
    assert [len(axes.images) for axes in figure.axes[:8]] == [1, 1, 1, 0, 1, 1, 1, 1]
    assert [axes.axison for axes in figure.axes[:8]] == [True] * 3 + [False] + [True] * 4


def test_nothing_to_show_is_said(tmp_path: Path) -> None:
    figure = attention_map_grid([], [], (0, 1))
    save_figure(figure, tmp_path / "grid.png", dpi=40)
    assert "no test images" in _texts(figure)
    assert _texts(worst_mistakes([], [], (0, 1))).count("none at this threshold") == 2


def test_worst_mistakes_shows_only_mistakes(tmp_path: Path) -> None:
    figure = worst_mistakes(ROWS, _pictures(), (0, 1), 0.5, count=3)
    text = _texts(figure)
    assert [f"$a$/{i}?.png" in text for i in range(4)] == [True, False, True, False]
    save_figure(figure, tmp_path / "mistakes.png", dpi=40)
    assert (tmp_path / "mistakes.png").stat().st_size > 1000


def test_worst_mistakes_frame_the_place_of_the_zoom() -> None:
    first, *others = _pictures()
    piece = Picture(first.image[:, :8, :8], np.zeros((8, 8)), place=np.array([0, 0.25, 0.5, 0.75], np.float32))
    figure = worst_mistakes(ROWS, [replace(first, zoom=piece), *others], (0, 1), 0.5, count=3)
    (frame,) = [patch for axes in figure.findobj(Axes) for patch in axes.patches]  # type: ignore[attr-defined]
    assert frame.get_bbox().bounds == (6, 0, 12, 8)  # type: ignore[attr-defined]  # of 24 x 16 pixels


@pytest.mark.parametrize("count", [1, 6, 7])
def test_contact_sheet(tmp_path: Path, count: int) -> None:
    tiles = [Tile(np.full((8, 12, 3), 100, np.uint8), f"$a_{n}$/{'x' * 40}.png", n / 3, n % 2) for n in range(count)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = contact_sheet(tiles, "Highest $1$")
        save_figure(figure, tmp_path / "sheet.png")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert [bool(title) for title in titles] == [True] * count + [False] * (len(titles) - count)
    assert titles[0].endswith("normal · 0")
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_names_of_any_script_are_drawn_without_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = "检查/деталь שלום 😀 é.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = contact_sheet([Tile(np.zeros((8, 12, 3), np.uint8), name, 1.0, 1)], "")
        save_figure(figure, tmp_path / "sheet.png")
    assert not caplog.records
    axes: Any = figure.axes[0]
    title = axes.title if axes.get_title() else axes._left_title
    for letter in title.get_text():
        fonts = [get_font(path) for path in fontManager._find_fonts_by_props(title.get_fontproperties())]
        assert letter.isspace() or any(font.get_char_index(ord(letter)) for font in fonts)


def test_a_letter_that_no_font_has_becomes_its_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_has", lambda path, letter: letter < "\u4e00")
    fonts._font_with.cache_clear()
    assert fonts.readable("é检\n.png") == "é\\u68c0?.png"
    fonts._font_with.cache_clear()
