"""Captioned strips of pictures."""

import numpy as np
import pytest

from anomap.runs.scores import ScoreRow
from anomap.viewing import palette
from anomap.viewing.strips import caption, strip


def tile(grey: int, height: int = 32, width: int = 32) -> np.ndarray:
    return np.full((height, width, 3), grey, np.uint8)


def row(label: int, score: float) -> ScoreRow:
    return ScoreRow.decide("test/crack/1.png", label, "crack", score, 2.5)


@pytest.mark.parametrize(
    ("label", "score", "text"),
    [
        (1, 3.0, "caught: score 3, threshold 2.5"),
        (1, 2.0, "missed: score 2, threshold 2.5"),
        (0, 3.0, "false alarm: score 3, threshold 2.5"),
        (0, 2.0, "passed: score 2, threshold 2.5"),
    ],
)
def test_the_caption_says_score_threshold_and_decision(label: int, score: float, text: str) -> None:
    assert caption(row(label, score)) == text


def test_pictures_stand_side_by_side_in_order_and_unchanged() -> None:
    pixels = strip(row(1, 3.0), {"image": tile(40), "overlay": tile(200)})
    assert pixels.dtype == np.uint8
    for grey in (40, 200):
        inside = (pixels == grey).all(-1)
        assert inside.sum() >= 160 * 160
        rows, columns = np.flatnonzero(inside.sum(1) > 100), np.flatnonzero(inside.sum(0) > 100)
        assert inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert len(rows) == len(columns)  # a square stays a square
    assert np.argwhere(pixels[..., 0] == 40)[:, 1].mean() < np.argwhere(pixels[..., 0] == 200)[:, 1].mean()


@pytest.mark.parametrize(("height", "width"), [(32, 64), (512, 256), (1, 4000)])
def test_pictures_of_any_shape_keep_it(height: int, width: int) -> None:
    pixels = strip(row(0, 1.0), {"image": tile(40, height, width)})
    inside = (pixels == 40).all(-1)
    tall, wide = inside.sum(0).max(), inside.sum(1).max()
    assert max(tall, wide) == 176
    assert tall / wide == pytest.approx(height / width, abs=0.01)


def test_many_pictures_stand_in_lines_of_three() -> None:
    pixels = strip(row(1, 3.0), {str(grey): tile(grey) for grey in (40, 60, 80, 100, 120, 140)})
    middles = [np.argwhere((pixels == grey).all(-1)).mean(0) for grey in (40, 60, 80, 100, 120, 140)]
    down, right = np.array(middles).reshape(2, 3, 2).transpose(2, 0, 1)
    assert (down.std(1) < 1).all()
    assert (right.std(0) < 1).all()
    assert (np.diff(right, axis=1) > 176).all()
    assert (np.diff(down, axis=0) > 176).all()


def test_the_decision_is_written_in_the_colour_of_the_label() -> None:
    for label, colour in ((0, palette.NORMAL), (1, palette.ABNORMAL)):
        pixels = strip(row(label, 3.0), {"image": tile(0), "overlay": tile(0)})
        assert (pixels == palette.rgb(colour)).all(-1).any()
        assert not (pixels == palette.rgb(palette.CLASS_COLOURS[1 - label])).all(-1).any()
