"""Whitening whitens, its cache equals recomputation, masks cover their cells, brightness survives."""

import pytest
import torch
from torch import Tensor, nn

from anomap.objectives.representation import Pixels, WhitenedFeatures


class Encoder(nn.Module):
    """Stands in for a pretrained one: two channels at stride 4 that ignore the absolute brightness."""

    stride, coarsest, channels = 4, 8, 2

    def load_pretrained(self) -> None:
        """There is nothing to load."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 2, H / 4, W / 4)."""
        first = nn.functional.avg_pool2d(images[:, :1], 4)
        x = torch.cat([first**2, first.roll(1, 2) * first], dim=1)
        return x - x.mean((2, 3), keepdim=True)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(10, 1, 16, 16)


def _fitted(images: Tensor, cache_mb: float = 100) -> WhitenedFeatures:
    features = WhitenedFeatures(Encoder(), ridge=0.0, cache_mb=cache_mb)  # pyright: ignore[reportArgumentType]
    features.fit(images.split(4))
    return features


def test_whitened_features_of_the_training_images_are_uncorrelated_with_variance_one(images: Tensor) -> None:
    rows = _fitted(images)(images).transpose(0, 1).flatten(1)
    torch.testing.assert_close(rows.mean(1), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(torch.cov(rows, correction=0), torch.eye(4), atol=1e-2, rtol=0)


def test_cache_equals_recomputation(images: Tensor) -> None:
    features, index = _fitted(images), torch.tensor([7, 0, 3])
    torch.testing.assert_close(features.clean(images[index], index), features(images[index]), atol=1e-2, rtol=1e-2)
    assert torch.equal(torch.cat(list(features.clean_batches([]))), features.clean(images, torch.arange(10)))


def test_without_room_for_the_cache_features_are_computed_anew(images: Tensor) -> None:
    features, index = _fitted(images, cache_mb=0), torch.tensor([7, 0])
    assert torch.equal(features.clean(images[index], index), features(images[index]))
    assert torch.equal(torch.cat(list(features.clean_batches(images.split(5)))), features(images))


def test_brightness_that_the_encoder_discards_is_kept(images: Tensor) -> None:
    features = _fitted(images)
    assert (features(images) - features((images + 0.3).clamp(0, 1))).abs().mean() > 0.1


def test_any_abnormal_pixel_makes_its_cell_abnormal(images: Tensor) -> None:
    mask = torch.zeros(1, 1, 16, 16)
    mask[0, 0, 5, 11] = 1
    assert _fitted(images).mask(mask).nonzero().tolist() == [[0, 0, 1, 2]]


def test_statistics_load_into_a_fresh_one(images: Tensor) -> None:
    fitted = _fitted(images)
    fresh = WhitenedFeatures(Encoder())  # pyright: ignore[reportArgumentType]
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fresh(images), fitted(images))


def test_pixels_go_to_tanhs_range_and_back(images: Tensor) -> None:
    pixels = Pixels()
    there = pixels(images)
    assert there.min() >= -1
    assert there.max() <= 1
    back = pixels.image(there)
    assert back is not None
    torch.testing.assert_close(back, images)
