"""Each training image scored as if it had been left out: what stands out is named, and nothing else."""

import pytest
import torch
from torch import Tensor

from anomap.detection.calibration import share_of
from anomap.objectives.left_out import OUTLYING, left_out_scores, patches, robust_z


def drawn(count: int, seed: int = 0) -> Tensor:
    """Maps (N, 6, 8, 8) of correlated channels, and of images of different loudness."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(6, 6, generator=generator)
    maps = torch.einsum("fg,nghw->nfhw", mixing, torch.randn(count, 6, 8, 8, generator=generator))
    return maps * (1 + 0.1 * torch.rand(count, 1, 1, 1, generator=generator))


def in_batches(maps: Tensor) -> Tensor:
    return left_out_scores(lambda: maps.split(7))


def test_planted_outliers_stand_out_and_clean_images_do_not() -> None:
    maps = drawn(103)
    maps[[3, 50, 102], :, 4:6, 4:6] += 15  # of one kind: they could vouch for each other
    far = robust_z(in_batches(maps)) > OUTLYING
    assert far.nonzero()[:, 0].tolist() == [3, 50, 102]


@pytest.mark.parametrize("seed", range(4))
def test_of_clean_sets_next_to_none_is_named(seed: int) -> None:
    assert (robust_z(in_batches(drawn(100, seed))) > OUTLYING).sum() == 0


def test_an_image_does_not_vouch_for_itself() -> None:
    """Its score is that of the same image held out, by the fold that never saw it: its own cells change nothing."""
    maps = drawn(40)
    alone = maps.clone()
    alone[5] = 30  # whatever image 5 is,
    others = [n for n in range(40) if n % 5 == 0 and n != 5]  # the images of its fold are scored by the same folds
    torch.testing.assert_close(in_batches(alone)[others], in_batches(maps)[others], rtol=0.2, atol=0)
    assert in_batches(alone)[5] > 3 * in_batches(maps)[5]


def test_batches_and_the_random_state_change_nothing() -> None:
    maps, state = drawn(23), torch.random.get_rng_state()
    whole = left_out_scores(lambda: [maps])
    torch.testing.assert_close(in_batches(maps), whole, rtol=1e-4, atol=1e-5)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_images_held_out_are_scored_as_those_left_out() -> None:
    maps = drawn(120)
    scores = left_out_scores(lambda: [maps[:80]], [maps[80:]])
    assert len(scores) == 120
    assert 0.9 < float(scores[80:].median() / scores[:80].median()) < 1.1


def test_two_images_are_enough() -> None:
    assert torch.isfinite(in_batches(drawn(2))).all()


def test_robust_z_counts_deviations_of_the_upper_half() -> None:
    scores = torch.exp(torch.linspace(-1, 1, 101))  # the median of the deviations above the median is a half
    torch.testing.assert_close(robust_z(scores)[-1], torch.tensor(1 / (1.4826 * 0.5)), rtol=1e-4, atol=0)
    assert robust_z(torch.ones(30)).abs().max() == 0


def test_patches_are_pixels_side_by_side() -> None:
    images = torch.rand(2, 3, 12, 16)
    found = patches(images)
    assert found.shape == (2, 48, 5, 7)
    torch.testing.assert_close(found[1, :, 2, 3], images[1, :, 4:8, 6:10].flatten())
    assert patches(torch.rand(1, 1, 300, 200)).shape == (1, 16, 63, 63)


@pytest.mark.parametrize(
    ("count", "share", "expected"), [(100, 0.05, 5), (20, 0.05, 1), (21, 0.05, 2), (2, 0.4, 1), (1, 0.4, 0)]
)
def test_a_share_is_rounded_up_and_never_all(count: int, share: float, expected: int) -> None:
    assert share_of(count, share) == expected
