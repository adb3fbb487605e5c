"""What is kept of images to be looked at."""

import numpy as np
import pytest
import torch

from anomap.detection import pictures
from anomap.detection.pictures import as_pictures
from anomap.objectives.base import MethodOutput


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "LONGEST", 40)
    monkeypatch.setattr(pictures, "ZOOM", 16)


def output(shape: tuple[int, int], peak: tuple[int, int]) -> MethodOutput:
    maps = torch.zeros(1, 1, *shape)
    maps[0, 0, *peak] = 5
    return MethodOutput({}, maps, 1 - maps / 5, (maps / 5).expand(-1, 3, -1, -1))


@pytest.mark.parametrize(
    ("peak", "corner"), [((30, 50), (22, 42)), ((0, 0), (0, 0)), ((59, 79), (44, 64)), ((20, 79), (12, 64))]
)
def test_a_large_photograph_keeps_its_peak_and_a_piece_around_it(
    peak: tuple[int, int], corner: tuple[int, int]
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 60, 80), np.uint8)
    mask = np.zeros((120, 160), bool)  # of another size
    mask[2 * peak[0], 2 * peak[1]] = True
    (picture,) = as_pictures(output((60, 80), peak), image, [mask])
    assert picture.image.shape == (3, 30, 40)
    assert picture.anomaly_map.max() == 5  # a peak of one pixel
    assert picture.mask is not None
    assert picture.mask.any()
    zoom = picture.zoom
    assert zoom is not None
    top, left = corner
    np.testing.assert_array_equal(zoom.image, image[0, :, top : top + 16, left : left + 16])
    at = peak[0] - top, peak[1] - left
    assert (zoom.anomaly_map[0, *at], zoom.attention_map[0, *at], zoom.mask[*at]) == (5, 0, True)  # pyright: ignore
    assert zoom.place is not None
    np.testing.assert_allclose(zoom.place * [60, 80, 60, 80], [top, left, top + 16, left + 16], rtol=1e-6)


def test_a_small_one_is_shown_as_it_is_and_a_narrow_one_has_a_narrow_piece() -> None:
    (picture,) = as_pictures(output((40, 30), (3, 3)), np.zeros((1, 1, 40, 30), np.uint8))
    assert picture.image.shape == (1, 40, 30)
    assert picture.zoom is None
    (picture,) = as_pictures(output((8, 90), (3, 3)), np.zeros((1, 1, 8, 90), np.uint8))
    assert picture.zoom is not None
    assert picture.zoom.image.shape == (1, 8, 16)
