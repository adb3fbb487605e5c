"""What people see of an image: the colours say what the maps say, and normal images stay calm."""

import dataclasses

import numpy as np
import pytest

from anomap.viewing import palette
from anomap.viewing.pixels import Picture, overlay, smaller_mask, to_rgb_image, views

WHITE, BLACK = 255, 0


def _square(size: int = 8) -> np.ndarray:
    region = np.zeros((size, size))
    region[2:6, 2:6] = 1.0
    return region


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_number_of_channels_becomes_rgb(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (channels, 16, 16), np.uint8)
    rgb = to_rgb_image(image)
    assert rgb.shape == (16, 16, 3)
    assert rgb.dtype == np.uint8
    expected = image if channels == 3 else np.rint(image.mean(0, keepdims=True)).repeat(3, 0)
    assert (np.moveaxis(rgb, -1, 0) == expected).all()


def test_hot_is_abnormal_in_every_map_and_in_the_truth() -> None:
    """An attention map on its own fixed scale, whatever the anomaly map's."""
    region = _square()
    picture = Picture(np.full((1, 8, 8), 100, np.uint8), 7 * region[None], region[None], 1 - region[None])
    shown = views(picture, (0, 7), threshold=3)
    assert list(shown) == ["image", "attention map", "anomaly map", "overlay", "truth"]
    for name in ("attention map", "anomaly map", "truth"):
        brightness = shown[name].astype(int).sum(-1)
        assert brightness[region == 1].min() > 600
        assert brightness[region == 0].max() < 10
    assert (shown["attention map"] == views(picture, (0, 99))["attention map"]).all()


def test_thin_lines_of_the_truth_stay_visible_at_any_size() -> None:
    mask = np.zeros((500, 700), bool)
    mask[:, 333] = True
    mask[250, 100:200] = True
    for shape in ((50, 70), (31, 64), (7, 9), (1200, 1000)):
        small = smaller_mask(mask, shape)
        assert small.shape == shape
        assert small.any(1).all()  # the line goes from top to bottom
        assert small.any(0).sum() >= 0.13 * shape[1]
        assert small.mean() < max(mask.mean() * 2, 2.5 / min(shape))
    picture = Picture(np.zeros((1, 32, 32), np.uint8), np.zeros((32, 32)), smaller_mask(mask, (32, 32)))
    assert (views(picture, (0, 1), longest=8)["truth"].max((1, 2)) == WHITE).all()


def test_the_anomaly_map_is_shown_on_the_common_scale() -> None:
    region, image = _square(), np.full((3, 8, 8), 100, np.uint8)
    shown = views(Picture(image, 2 * region, region), (0, 2))
    assert list(shown) == ["image", "anomaly map", "overlay", "truth"]
    hot, half = shown["anomaly map"], views(Picture(image, region), (0, 2))["anomaly map"]
    assert hot[3, 3].sum() > half[3, 3].sum() > hot[0, 0].sum()  # not stretched to each map's own range


def test_all_views_have_the_shape_of_the_photograph() -> None:
    region = _square(32)
    picture = Picture(np.zeros((1, 32, 32), np.uint8), region, region, 1 - region, np.zeros((1, 32, 32), np.uint8))
    for size, longest, expected in (((300, 600), None, (16, 32)), ((90, 30), 24, (24, 8)), ((1, 999), None, (1, 32))):
        shown = views(dataclasses.replace(picture, size=np.array(size)), (0, 1), 0.5, longest)
        assert {pixels.shape for pixels in shown.values()} == {(*expected, 3)}


def test_everyday_anomaly_of_a_normal_image_is_not_seen() -> None:
    image = np.full((1, 32, 32), 100, np.uint8)
    below = np.random.default_rng(0).uniform(0, 0.3, (32, 32))
    shown = views(Picture(image, below), (0, 1.5))
    assert np.abs(shown["overlay"].astype(int) - 100).max() < 12
    assert shown["anomaly map"].mean() < 15


def test_masks_of_another_size_and_restored_images_are_shown() -> None:
    image = np.full((1, 8, 8), 100, np.uint8)
    large = np.kron(_square(), np.ones((4, 4)))
    shown = views(Picture(image, np.zeros((8, 8)), large[None] * 255, None, image // 2), (0, 1))
    assert list(shown) == ["image", "anomaly map", "overlay", "truth", "restored"]
    assert ((shown["truth"] == WHITE).all(-1) == (_square() == 1)).all()
    assert (shown["restored"] == 50).all()


def test_overlay_surrounds_the_abnormal_and_hides_nothing() -> None:
    image = np.full((1, 8, 8), 100, np.uint8)
    anomaly_map, before = _square()[None], image.copy()
    outlined = overlay(image, anomaly_map, (0, 1), threshold=0.5)
    border = (outlined == palette.rgb(palette.CONTOUR)).all(-1)
    assert border.sum() == 20  # around a 4 x 4 square
    assert not border[2:6, 2:6].any()
    assert (outlined[~border] == 100).all()
    assert (image == before).all()
    glowing = overlay(image, anomaly_map, (0, 1))
    assert (glowing[anomaly_map[0] == 0] == 100).all()
    assert (glowing[3, 3] != 100).any()


def test_a_defect_of_one_pixel_stays_visible_in_its_outline() -> None:
    image, speck = np.full((1, 300, 300), 100, np.uint8), np.zeros((300, 300))
    speck[150, 150] = 1
    outlined = overlay(image, speck, (0, 1), threshold=0.5)
    line = (outlined == palette.rgb(palette.CONTOUR)).all(-1)
    assert not line[150, 150]
    assert line.sum() == 24  # two pixels wide on an image of 300


def test_the_line_leaves_something_of_a_thin_strip() -> None:
    outlined = overlay(np.full((1, 8, 2000), 100, np.uint8), np.ones((8, 2000)), (0, 1), threshold=0.5)
    assert (outlined != palette.rgb(palette.CONTOUR)).any(-1).mean() > 0.5


def test_an_image_that_is_abnormal_all_over_has_a_line_along_its_edge() -> None:
    outlined = overlay(np.full((1, 8, 8), 100, np.uint8), np.ones((8, 8)), (0, 1), threshold=0.5)
    line = (outlined == palette.rgb(palette.CONTOUR)).all(-1)
    assert line.sum() == 28
    assert not line[1:-1, 1:-1].any()


def test_a_map_is_laid_over_a_photograph_of_any_size() -> None:
    outlined = overlay(np.full((3, 40, 80), 100, np.uint8), _square(), (0, 1), threshold=0.5)
    rows, columns = np.nonzero((outlined == palette.rgb(palette.CONTOUR)).all(-1))
    assert outlined.shape == (40, 80, 3)
    assert (rows.min(), rows.max()) == pytest.approx((9, 30), abs=2)
    assert (columns.min(), columns.max()) == pytest.approx((19, 60), abs=3)


def test_overlay_is_the_same_whatever_else_is_drawn() -> None:
    image = np.full((1, 4, 4), 100, np.uint8)
    weak, strong = np.full((4, 4), 0.1), np.full((4, 4), 5.0)
    assert np.abs(overlay(image, weak, (0, 1)).astype(int) - 100).max() < 20
    assert (overlay(image, strong, (0, 1)) == overlay(image, np.ones((4, 4)), (0, 1))).all()


def test_overlay_refuses_an_empty_scale() -> None:
    with pytest.raises(ValueError, match="ascend"):
        overlay(np.zeros((1, 4, 4), np.uint8), np.zeros((4, 4)), (1, 1))
