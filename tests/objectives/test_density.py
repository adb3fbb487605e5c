"""Densities agree with scikit-learn and with the textbook formula, and survive a round trip through a state dict."""

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture

from anomap.objectives.density import GlobalGaussian, Mixture, NearestNormal, squared_distances


def _clusters(count: int = 400) -> torch.Tensor:
    """Two correlated clusters in 3 dimensions."""
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(count, 3, generator=generator) @ torch.tensor(
        [[1.0, 0.5, 0.0], [0.0, 0.7, 0.2], [0.0, 0.0, 0.4]]
    )
    points[: count // 2] += torch.tensor([4.0, 0.0, -2.0])
    return points


def test_mixture_is_scikit_learns_negative_log_density() -> None:
    rows = _clusters()
    mixture = Mixture(2, ridge=1e-3, iterations=15)
    mixture.fit(rows, seed=3)
    reference = GaussianMixture(2, reg_covar=1e-3, max_iter=15, init_params="k-means++", random_state=3)
    reference.fit(rows.numpy())
    maps = rows[:12].T.reshape(1, 3, 3, 4)
    expected = -reference.score_samples(rows[:12].numpy()).reshape(1, 1, 3, 4)
    np.testing.assert_allclose(mixture(maps).numpy(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("features", [2, 9])  # fewer than there are blocks of columns, and no multiple of them
def test_distances_of_more_rows_than_fit_at_once_are_mahalanobis(features: int) -> None:
    generator = torch.Generator().manual_seed(5)
    rows, means = torch.randn(1500, features, generator=generator), torch.randn(3, features, generator=generator)
    factors = torch.randn(3, features, features, generator=generator).triu()
    offsets = rows[:, None] - means
    expected = torch.einsum("nkf,kfg,khg,nkh->nk", offsets, factors, factors, offsets)
    torch.testing.assert_close(squared_distances(rows, means, factors), expected, rtol=1e-4, atol=1e-4)


def test_mixture_of_one_is_a_gaussian() -> None:
    rows = _clusters()
    mixture = Mixture(1, ridge=1e-6)
    mixture.fit(rows)
    expected = torch.distributions.MultivariateNormal(rows.mean(0), torch.cov(rows.T, correction=0)).log_prob(rows[:5])
    torch.testing.assert_close(mixture(rows[:5].T.reshape(1, 3, 1, 5)).flatten(), -expected, rtol=1e-3, atol=1e-3)


def test_mixture_and_gaussian_load_into_fresh_ones() -> None:
    rows = _clusters()
    for fitted, fresh in (
        (Mixture(2), Mixture(2)),
        (GlobalGaussian(), GlobalGaussian()),
        (NearestNormal(), NearestNormal()),
    ):
        fitted.fit(rows)
        fresh.load_state_dict(fitted.state_dict())
        given = rows[:6].T.reshape(1, 3, 2, 3) if isinstance(fitted, Mixture) else rows[:6]
        assert torch.equal(fitted(given), fresh(given))


def test_a_point_far_away_is_less_dense() -> None:
    rows = _clusters()
    mixture = Mixture(2)
    mixture.fit(rows)
    near, far = mixture(torch.stack([rows[0], rows[0] + 30]).T.reshape(1, 3, 1, 2)).flatten()
    assert far > near + 100


def test_global_gaussian_without_shrinkage_is_the_mahalanobis_distance() -> None:
    rows = _clusters()
    gaussian = GlobalGaussian(shrinkage=0.0)
    gaussian.fit(rows)
    centred = (rows - rows.mean(0)).double()
    expected = (centred @ torch.linalg.inv(torch.cov(rows.T.double(), correction=0)) * centred).sum(1)
    torch.testing.assert_close(gaussian(rows).double(), expected, rtol=1e-3, atol=1e-3)


def test_global_gaussian_with_fewer_images_than_dimensions_is_finite() -> None:
    gaussian = GlobalGaussian()
    vectors = torch.randn(5, 20)
    gaussian.fit(vectors)
    assert torch.isfinite(gaussian(vectors)).all()


def test_nearest_normal_tells_what_lies_between_two_kinds() -> None:
    rows = _clusters()
    nearest, gaussian = NearestNormal(), GlobalGaussian()
    nearest.fit(rows)
    gaussian.fit(rows)
    middle = (rows[:200].mean(0) + rows[200:].mean(0)).view(
        1, 3
    ) / 2  # normal to one Gaussian over both, but to neither kind
    assert gaussian(middle) < gaussian(rows).median()
    assert nearest(middle) > 3 * nearest(rows + 0.01).max()


def test_nearest_normal_remembers_no_more_than_it_may() -> None:
    rows = _clusters()
    nearest = NearestNormal(samples=50)
    nearest.fit(rows)
    assert nearest.memory.shape == (50, 3)
    assert (nearest(rows) < 1e-2).sum() == 50
