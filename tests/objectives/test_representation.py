"""Whitening whitens, its cache equals recomputation, masks cover their cells, brightness survives."""

import platform
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from anomap.objectives.representation import DenseFeatures, Pixels, WhitenedFeatures
from anomap.objectives.whitening import Whitening


class Encoder(nn.Module):
    """Stands in for a pretrained one: maps of two strides that ignore the absolute brightness."""

    stride, grid_stride = 8, 4
    detail_channels = ()

    def __init__(self, context: bool = True) -> None:
        super().__init__()
        self.local_channels, self.context_channels = ((2,), (3,)) if context else ((2, 3), ())

    def load_pretrained(self) -> None:
        """There is nothing to load."""

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, H, W) -> (B, 2, H / 4, W / 4) and (B, 3, H / 8, W / 8)."""
        fine = nn.functional.avg_pool2d(images[:, :1], 4)
        fine = torch.cat([fine**2, fine.roll(1, 2) * fine], dim=1)
        coarse = nn.functional.avg_pool2d(images[:, :1], 8)
        coarse = torch.cat([coarse, coarse**2, coarse.roll(1, 3)], dim=1)
        return [x - x.mean((2, 3), keepdim=True) for x in (fine, coarse)]


@pytest.fixture
def images() -> Tensor:
    return torch.rand(10, 1, 16, 16)


def _fitted(images: Tensor, cache_mb: float = 100) -> WhitenedFeatures:
    features = fresh(cache_mb)
    features.learn_statistics(images.split(4))
    return features


def fresh(cache_mb: float = 100) -> WhitenedFeatures:
    return WhitenedFeatures(Encoder(), ridge=0.0, cache_mb=cache_mb)  # pyright: ignore[reportArgumentType]


def test_both_groups_of_many_training_images_are_uncorrelated_with_variance_one() -> None:
    images = torch.rand(2000, 1, 16, 16)
    features = _fitted(images)
    for group, channels in zip(features.groups(*features.raw(images))[:2], (4, 3), strict=True):
        rows = group.transpose(0, 1).flatten(1)
        torch.testing.assert_close(rows.mean(1), torch.zeros(channels), atol=1e-3, rtol=0)
        covariance = torch.cov(rows, correction=0)
        torch.testing.assert_close(covariance, covariance.diagonal().diag(), atol=1e-2, rtol=0)
        assert (covariance.diagonal() > 0.5).all()  # below 1 where a direction is so rare that it is shrunk
        assert (covariance.diagonal() < 1.01).all()
        assert covariance.diagonal().amax() > 0.95


def test_local_channels_come_first_and_the_context_lies_on_their_grid(images: Tensor) -> None:
    features = _fitted(images)
    local, context, _ = features.groups(*features.raw(images))
    assert (features.local_channels, features.context_channels) == (4, 3)
    x = features(images)
    assert x.shape == (10, 7, 4, 4)
    assert torch.equal(features.local(x), local)
    # bilinear interpolation keeps the mean of a map whose size doubles, but for the border
    torch.testing.assert_close(x[:, 4:].mean((2, 3)), context.mean((2, 3)), atol=0.05, rtol=0)


def test_without_coarser_maps_there_is_no_context(images: Tensor) -> None:
    features = WhitenedFeatures(Encoder(context=False))  # pyright: ignore[reportArgumentType]
    features.learn_statistics(images.split(4))
    assert features.context_channels == 0
    assert torch.equal(features.local(features(images)), features(images))


def test_cache_equals_recomputation(images: Tensor) -> None:
    features, index = _fitted(images), torch.tensor([7, 0, 3])
    torch.testing.assert_close(features.clean(images[index], index), features(images[index]), atol=1e-5, rtol=0)
    assert torch.equal(torch.cat(list(features.clean_batches([]))), features.clean(images, torch.arange(10)))


def test_mixed_precision_does_not_tell_a_clean_image_from_the_same_one_computed_anew(images: Tensor) -> None:
    features, index = _fitted(images), torch.arange(10)
    with torch.autocast("cpu", torch.bfloat16):
        clean, anew = features.clean(images, index), features(images)
    assert (clean - anew).abs().max() < 1e-3
    assert torch.equal(anew, features(images))


def test_the_cache_moves_along_and_no_index_is_fetched_from_a_device(images: Tensor) -> None:
    """The meta device holds no values: whatever had to wait for one raises."""
    features = _fitted(images).to("meta")
    clean = features.clean(images.to("meta"), torch.arange(4, device="meta"))
    assert clean.device.type == "meta"
    assert clean.shape == (4, 7, 4, 4)


def test_whitening_of_few_cells_does_not_magnify_what_it_has_never_seen() -> None:
    torch.manual_seed(0)
    scale = torch.logspace(0, -3, 60)[:, None, None]
    whitening = Whitening(60)
    whitening.add(torch.randn(1, 60, 4, 8) * scale)  # fewer cells than channels
    whitening.finish()
    assert whitening(torch.randn(50, 60, 4, 8) * scale).abs().max() < 20


def test_without_room_for_the_cache_features_are_computed_anew(images: Tensor) -> None:
    features, index = _fitted(images, cache_mb=0), torch.tensor([7, 0])
    assert torch.equal(features.clean(images[index], index), features(images[index]))
    assert torch.equal(torch.cat(list(features.clean_batches(images.split(5)))), features(images))


IN_MEMORY = """
import torch
from anomap.memory import keep_memory, peak_rss
from anomap.objectives.representation import WhitenedFeatures
from tests.objectives.test_representation import Encoder

class Wide(Encoder):
    def __init__(self):
        super().__init__()
        self.local_channels, self.context_channels = (30,), ()

    def forward(self, images):
        return [torch.cat([super(Wide, self).forward(images)[0]] * 15, dim=1)]

keep_memory()
features = WhitenedFeatures(Wide(), cache_mb=1e4)
batches = [torch.rand(1, 1, 512, 512) for _ in range(4)]
features.learn_statistics(batches)
before = peak_rss()
features.learn_statistics(batches * 40)
print((peak_rss() - before) / sum(x.nbytes for x in features._cache))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tells glibc's allocator")
def test_features_are_not_in_memory_twice(monkeypatch) -> None:
    for name in ("MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    output = subprocess.run([sys.executable, "-c", IN_MEMORY], capture_output=True, text=True, check=True).stdout
    assert 0.8 < float(output) < 1.3


def test_memory_is_given_back_for_what_is_kept_alone(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs page faults, in a pass over many images that keeps nothing for nothing."""
    given = 0

    def give_back() -> None:
        nonlocal given
        given += 1

    monkeypatch.setattr("anomap.objectives.representation.give_back_memory", give_back)
    batches = list(images[:1].expand(20, -1, -1, -1).split(1))
    for cache_mb, expected in ((0, 0), (100, 2 + 5)):
        given = 0
        WhitenedFeatures(Encoder(), cache_mb=cache_mb).learn_statistics(batches)  # pyright: ignore[reportArgumentType]
        assert given == expected


def test_cells_that_are_all_the_same_are_whitened_to_finite_values() -> None:
    whitening = Whitening(3)
    whitening.add(torch.ones(1, 3, 1, 1))
    whitening.finish()
    assert whitening(torch.ones(1, 3, 1, 1)).abs().max() == 0
    assert torch.isfinite(whitening(torch.rand(2, 3, 4, 4))).all()


def test_brightness_that_the_encoder_discards_is_kept(images: Tensor) -> None:
    features = _fitted(images)
    assert (features(images) - features((images + 0.3).clamp(0, 1))).abs().mean() > 0.1


def test_any_abnormal_pixel_makes_its_cell_abnormal(images: Tensor) -> None:
    mask = torch.zeros(1, 1, 16, 16)
    mask[0, 0, 5, 11] = 1
    assert _fitted(images).mask(mask).nonzero().tolist() == [[0, 0, 1, 2]]


class Detailed(Encoder):
    """With a map of half the grid's stride, too."""

    detail_channels = (1,)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The same, after (B, 1, H / 2, W / 2)."""
        return [nn.functional.avg_pool2d(images[:, :1], 2), *super().forward(images)]


def _dense(images: Tensor, cache_mb: float = 100) -> DenseFeatures:
    features = DenseFeatures(Detailed(), components=2, cache_mb=cache_mb)  # pyright: ignore[reportArgumentType]
    features.learn_statistics(images.split(4))
    return features


@pytest.mark.parametrize("cache_mb", [0, 100])
def test_rarity_is_the_last_channel_standardised_on_the_training_cells(images: Tensor, cache_mb: float) -> None:
    features = _dense(images, cache_mb)
    assert (features.detail_channels, features.density_channels) == (4, 1)
    x = torch.cat(list(features.clean_batches(images.split(5))))
    assert x.shape[1] == 4 + 3 + 4 + 1
    rarity = features.rarity(x)
    assert rarity.shape == (10, 1, 4, 4)
    torch.testing.assert_close(rarity.mean(), torch.tensor(0.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(rarity.std(correction=0), torch.tensor(1.0), atol=1e-2, rtol=0)
    torch.testing.assert_close(features(images), x, atol=1e-4, rtol=0)
    assert features.rarity(features(images + 2 * torch.rand_like(images))).amax() > rarity.amax()


def test_details_are_folded_onto_the_grid_and_unfold_where_they_were(images: Tensor) -> None:
    features = _dense(images)
    folded = features(images)[:, 7:11]
    finer = nn.functional.pixel_shuffle(folded, 2)[:, 0]
    plain = nn.functional.avg_pool2d(images, 2)[:, 0]
    for one, other in zip(finer, plain, strict=True):
        assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1] > 0.9


def test_statistics_load_into_a_fresh_one(images: Tensor) -> None:
    fitted = _fitted(images)
    loaded = fresh()
    loaded.load_state_dict(fitted.state_dict())
    assert torch.equal(loaded(images), fitted(images))


def test_pixels_go_to_tanhs_range_and_back(images: Tensor) -> None:
    pixels = Pixels(1)
    there = pixels(images)
    assert there.min() >= -1
    assert there.max() <= 1
    back = pixels.image(there)
    assert back is not None
    torch.testing.assert_close(back, images)
