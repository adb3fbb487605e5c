"""Densities agree with scikit-learn and with the textbook formula, and survive a round trip through a state dict."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from anomap.objectives.density import GlobalGaussian, Mixture, NearestNormal
from anomap.objectives.expectation_maximisation import squared_distances


def _clusters(count: int = 400) -> torch.Tensor:
    """Two correlated clusters in 3 dimensions."""
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(count, 3, generator=generator) @ torch.tensor(
        [[1.0, 0.5, 0.0], [0.0, 0.7, 0.2], [0.0, 0.0, 0.4]]
    )
    points[: count // 2] += torch.tensor([4.0, 0.0, -2.0])
    return points


def _maps(rows: torch.Tensor) -> torch.Tensor:
    """(N, F) -> (1, F, 1, N)."""
    return rows.T[None, :, None]


def test_mixture_is_scikit_learns_density_with_shrunk_covariances() -> None:
    rows = _clusters()
    mixture = Mixture(2, ridge=1e-3, iterations=15)
    mixture.fit(rows, 400, seed=3)
    reference = GaussianMixture(2, reg_covar=1e-3, max_iter=15, init_params="k-means++", random_state=3)
    reference.fit(rows.numpy())
    found: Any = (reference.weights_, reference.means_, reference.covariances_)
    log_densities = []
    for weight, mean, covariance in zip(*found, strict=True):
        samples = weight * 400
        mean_square, squared_mean = (covariance**2).mean(), (np.trace(covariance) / 3) ** 2
        rho = (mean_square + squared_mean) / ((samples + 1) * (mean_square - squared_mean / 3))
        shrunk = (1 - rho) * covariance + rho * np.trace(covariance) / 3 * np.eye(3)
        gaussian = multivariate_normal(mean, shrunk)
        log_densities.append(np.log(weight) + gaussian.logpdf(np.vstack([rows[:12].numpy(), mean])))
    tops = [values[-1] for values in log_densities]
    log_density = np.logaddexp(*(values[:12] for values in log_densities))
    expected = np.sqrt(2 / 3 * (np.logaddexp(*tops) - log_density))
    np.testing.assert_allclose(mixture(_maps(rows[:12])).flatten().numpy(), expected, rtol=1e-3, atol=1e-3)
    assert mixture.fitted_images == 400


@pytest.mark.parametrize("features", [2, 9])  # fewer than there are blocks of columns, and no multiple of them
def test_distances_of_more_rows_than_fit_at_once_are_mahalanobis(features: int) -> None:
    generator = torch.Generator().manual_seed(5)
    rows, means = torch.randn(1500, features, generator=generator), torch.randn(3, features, generator=generator)
    factors = torch.randn(3, features, features, generator=generator).triu()
    offsets = rows[:, None] - means
    expected = torch.einsum("nkf,kfg,khg,nkh->nk", offsets, factors, factors, offsets)
    torch.testing.assert_close(squared_distances(rows, means, factors), expected, rtol=1e-4, atol=1e-4)


def test_mixture_of_one_is_mahalanobis_distance_per_dimension() -> None:
    rows = _clusters(4000)
    mixture = Mixture(1, ridge=1e-6)
    mixture.fit(rows, 4000)
    centred = rows - rows.mean(0)
    expected = (centred @ torch.linalg.inv(torch.cov(rows.T, correction=0)) * centred).sum(1).div(3).sqrt()
    torch.testing.assert_close(mixture(_maps(rows[:50])).flatten(), expected[:50], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("images", [3, 4, 5, 9, 20])
def test_of_few_images_new_normal_ones_stay_of_order_one_and_others_stand_out(images: int) -> None:
    """More dimensions than images, some of which the images do not show at all."""
    torch.manual_seed(0)
    scale = torch.logspace(0, -4, 60)
    train, new = torch.randn(images, 60) * scale, torch.randn(50, 60) * scale
    for gaussian in (GlobalGaussian(), NearestNormal()):
        gaussian.fit(train)
        assert gaussian(new).median() < 10
        assert gaussian(new + 30 * scale).median() > 2 * gaussian(new).median()
        assert gaussian.fitted_images == images
    mixture = Mixture(24)
    mixture.fit(train.repeat(8, 1) + 0.1 * torch.randn(8 * images, 60) * scale, images)
    assert len(mixture.means) == 1
    assert mixture(_maps(new)).median() < 10


@pytest.mark.parametrize(("images", "components"), [(0, 1), (14, 1), (31, 2), (1000, 3)])
def test_a_component_needs_so_many_images_whatever_their_cells(images: int, components: int) -> None:
    mixture = Mixture(3)
    mixture.fit(torch.randn(400, 4), images)
    assert len(mixture.means) == components


def test_a_dimension_that_never_varies_does_no_harm() -> None:
    train, new = torch.randn(5, 20), torch.randn(5, 20)
    train[:, 3] = 1.0
    new[:, 3] = 1.1
    gaussian = GlobalGaussian()
    gaussian.fit(train)
    assert gaussian(new).max() < 10


def test_mixed_precision_changes_nothing() -> None:
    rows = _clusters()
    for density in (Mixture(2), GlobalGaussian(), NearestNormal()):
        density.fit(rows, 9) if isinstance(density, Mixture) else density.fit(rows)
        given = _maps(rows) if isinstance(density, Mixture) else rows
        with torch.autocast("cpu", torch.bfloat16):
            found = density(given)
        torch.testing.assert_close(found, density(given))


def test_mixture_and_gaussian_load_into_fresh_ones() -> None:
    rows = _clusters()
    for fitted, fresh in (
        (Mixture(2), Mixture(2)),
        (GlobalGaussian(), GlobalGaussian()),
        (NearestNormal(), NearestNormal()),
    ):
        fitted.fit(rows, 9) if isinstance(fitted, Mixture) else fitted.fit(rows)
        fresh.load_state_dict(fitted.state_dict())
        given = rows[:6].T.reshape(1, 3, 2, 3) if isinstance(fitted, Mixture) else rows[:6]
        assert torch.equal(fitted(given), fresh(given))


def test_a_point_far_away_is_less_dense() -> None:
    rows = _clusters()
    mixture = Mixture(2)
    mixture.fit(rows, 9)
    near, far = mixture(torch.stack([rows[0], rows[0] + 30]).T.reshape(1, 3, 1, 2)).flatten()
    assert far > near + 10


def test_global_gaussian_of_many_is_the_mahalanobis_distance_per_dimension() -> None:
    rows = _clusters(20_000)
    gaussian = GlobalGaussian(shrinkage=0.0)
    gaussian.fit(rows)
    centred = (rows - rows.mean(0)).double()
    expected = (centred @ torch.linalg.inv(torch.cov(rows.T.double(), correction=0)) * centred).sum(1).div(3).sqrt()
    torch.testing.assert_close(gaussian(rows).double(), expected, rtol=1e-2, atol=1e-2)


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


@pytest.mark.parametrize("count", [1, 5])
def test_images_that_are_all_the_same_give_a_finite_distance(count: int) -> None:
    gaussian = GlobalGaussian()
    gaussian.fit(torch.arange(6.0).expand(count, -1))
    assert gaussian(torch.arange(6.0)[None]).item() == 0
    assert torch.isfinite(gaussian(torch.ones(1, 6))).all()
