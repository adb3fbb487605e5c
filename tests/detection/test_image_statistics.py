"""Statistics of images: known answers, and the same of arrays and tensors, bytes and floats."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from anomap.detection.image_statistics import image_statistics


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(40, 160, shape, np.uint8)


def test_known_answers() -> None:
    """A row of 0 and 1 in turn: mean and deviation are 1/2, the Laplacian is 2 up to its sign."""
    stripes = np.tile(np.array([0, 255], np.uint8), (1, 1, 16, 8))
    np.testing.assert_allclose(image_statistics(stripes), [[0.5, 0.5, 2 / 0.5]], rtol=1e-5)
    flat = np.full((2, 3, 20, 20), 51, np.uint8)
    np.testing.assert_allclose(image_statistics(flat), [[0.2, 0, 1]] * 2, atol=1e-3)


@pytest.mark.parametrize("shape", [(3, 1, 8, 8), (2, 3, 64, 48), (1, 3, 130, 257), (1, 1, 2, 5), (1, 1, 1, 1)])
def test_arrays_tensors_bytes_and_floats_agree_and_stay_as_they_are(shape: tuple[int, ...]) -> None:
    images = noise(*shape)
    floats = torch.from_numpy(images).float() / 255
    before = floats.clone()
    expected = image_statistics(images)
    assert expected.shape == (shape[0], 3)
    assert expected.dtype == np.float32
    assert np.isfinite(expected).all()
    for given in (torch.from_numpy(images), floats, floats.numpy()):
        np.testing.assert_allclose(np.asarray(image_statistics(given)), expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(floats, before)
    for place in range(shape[0]):  # of each image alone
        np.testing.assert_allclose(image_statistics(images[[place]])[0], expected[place], rtol=1e-5)


def test_each_sees_what_it_is_named_after() -> None:
    images = noise(4, 1, 128, 128).astype(np.float32) / 255
    plain = image_statistics(images)
    lighter, stronger = image_statistics(images + 0.2), image_statistics(images * 1.5)
    blurred = image_statistics(ndimage.gaussian_filter(images, (0, 0, 1, 1)))
    np.testing.assert_allclose(lighter, plain + np.array([0.2, 0, 0]), rtol=1e-3)
    np.testing.assert_allclose(stronger, plain * [1.5, 1.5, 1], rtol=1e-3)
    np.testing.assert_allclose(blurred[:, 0], plain[:, 0], rtol=1e-2)
    assert (blurred[:, 2] < 0.5 * plain[:, 2]).all()
