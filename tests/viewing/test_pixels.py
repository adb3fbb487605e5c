"""What people see of an image: the colours say what the maps say, and normal images stay calm."""

import numpy as np
import pytest

from anomap.viewing import palette
from anomap.viewing.pixels import Picture, overlay, to_rgb_image, views

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


def test_the_attention_map_is_the_map_where_there_is_one() -> None:
    """White where it is 1, black where it is 0, whatever the anomaly map's scale; truth in the same colours."""
    region = _square()
    picture = Picture(np.full((1, 8, 8), 100, np.uint8), 7 * region[None], region[None], 1 - region[None])
    shown = views(picture, (0, 9), threshold=3)
    assert list(shown) == ["image", "attention map", "overlay", "truth"]
    for name in ("attention map", "truth"):
        assert (shown[name][region == 1] == BLACK).all()
        assert (shown[name][region == 0] == WHITE).all()


def test_without_attention_the_anomaly_map_is_shown_on_the_common_scale() -> None:
    region, image = _square(), np.full((3, 8, 8), 100, np.uint8)
    shown = views(Picture(image, 2 * region, region), (0, 2))
    assert list(shown) == ["image", "anomaly map", "overlay", "truth"]
    assert (shown["truth"][region == 1] == WHITE).all()
    hot, half = shown["anomaly map"], views(Picture(image, region), (0, 2))["anomaly map"]
    assert hot[3, 3].sum() > half[3, 3].sum() > hot[0, 0].sum()  # not stretched to each map's own range
    assert hot[0, 0].sum() < 10


def test_everyday_anomaly_of_a_normal_image_is_not_seen() -> None:
    image = np.full((1, 32, 32), 100, np.uint8)
    below = np.random.default_rng(0).uniform(0, 0.3, (32, 32))
    shown = views(Picture(image, below), (0, 1.5), threshold=1.0)
    assert np.abs(shown["overlay"].astype(int) - 100).max() < 12
    assert shown["anomaly map"].mean() < 15


def test_masks_of_another_size_and_restored_images_are_shown() -> None:
    image = np.full((1, 8, 8), 100, np.uint8)
    large = np.kron(_square(), np.ones((4, 4)))
    shown = views(Picture(image, np.zeros((8, 8)), large[None] * 255, None, image // 2), (0, 1))
    assert list(shown) == ["image", "anomaly map", "overlay", "truth", "restored"]
    assert ((shown["truth"] == WHITE).all(-1) == (_square() == 1)).all()
    assert (shown["restored"] == 50).all()


def test_overlay_leaves_the_normal_untouched_and_marks_the_abnormal() -> None:
    image = np.full((1, 8, 8), 100, np.uint8)
    anomaly_map, before = _square()[None], image.copy()
    plain = overlay(image, anomaly_map, (0, 1))
    assert (plain[anomaly_map[0] == 0] == 100).all()
    assert (plain[3, 3] != 100).any()
    outlined = overlay(image, anomaly_map, (0, 1), threshold=0.5)
    border = (outlined == palette.rgb(palette.CONTOUR)).all(-1)
    assert border.sum() == 20  # around a 4 x 4 square
    assert not border[2:6, 2:6].any()
    assert (outlined[3, 3] == plain[3, 3]).all()
    assert (image == before).all()


def test_a_defect_of_one_pixel_stays_visible_in_its_outline() -> None:
    image, speck = np.full((1, 300, 300), 100, np.uint8), np.zeros((300, 300))
    speck[150, 150] = 1
    outlined = overlay(image, speck, (0, 1), threshold=0.5)
    line = (outlined == palette.rgb(palette.CONTOUR)).all(-1)
    assert not line[150, 150]
    assert line.sum() == 24  # two pixels wide on an image of 300


def test_overlay_is_the_same_whatever_else_is_drawn() -> None:
    image = np.full((1, 4, 4), 100, np.uint8)
    weak, strong = np.full((4, 4), 0.1), np.full((4, 4), 5.0)
    assert np.abs(overlay(image, weak, (0, 1)).astype(int) - 100).max() < 20
    assert (overlay(image, strong, (0, 1)) == overlay(image, np.ones((4, 4)), (0, 1))).all()


def test_overlay_refuses_what_does_not_fit() -> None:
    image = np.zeros((1, 4, 4), np.uint8)
    with pytest.raises(ValueError, match="does not fit"):
        overlay(image, np.zeros((8, 8)), (0, 1))
    with pytest.raises(ValueError, match="ascend"):
        overlay(image, np.zeros((4, 4)), (1, 1))
