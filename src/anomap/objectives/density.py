"""Densities of normal features: Gaussian, mixture of Gaussians, nearest normal image.

All give a root mean square deviation per dimension, in standard deviations: normal images lie around 1, whatever the features.
Covariances are shrunk the more the fewer samples there are: 3 images are enough.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from anomap.config import check_whole
from anomap.memory import give_back_memory
from anomap.objectives.base import FittedState
from anomap.objectives.expectation_maximisation import (
    fit_gaussians,
    inverse_factors,
    log_constants,
    squared_distances,
)
from anomap.objectives.whitening import full_precision, oas, shrunk

CELLS_PER_COMPONENT = 4  # cells of a component for each dimension, at least
IMAGES_PER_COMPONENT = 15  # at least: cells of one image are alike; of few images, many components learn each by heart
EXTRA_IMAGES = 1  # that vary in every dimension as it does on average, added to those a Gaussian is fitted to


def sample_cells(maps: Iterable[Tensor], count: int, generator: torch.Generator) -> Tensor:
    """`sample_rows` of the cells of maps (B, F, h, w): (count, F)."""
    return sample_rows((x.movedim(1, -1).flatten(0, -2) for x in maps), count, generator)


def sample_rows(batches: Iterable[Tensor], count: int, generator: torch.Generator) -> Tensor:
    """Rows (count, F), or all there are, drawn from batches (N, F) in one pass: those with the smallest random keys."""
    rows, keys = torch.zeros(0), torch.zeros(0, dtype=torch.float64)
    for x in batches:
        drawn = torch.rand(len(x), generator=generator, dtype=torch.float64)
        low = (drawn < (keys.max() if len(keys) >= count else torch.inf)).nonzero().flatten()
        rows, keys = torch.cat([rows, x[low.to(x.device)].cpu()]), torch.cat([keys, drawn[low]])
        if len(keys) > count:
            kept = keys.topk(count, largest=False).indices
            rows, keys = rows[kept], keys[kept]
    return rows


def run_generator() -> torch.Generator:
    """A generator of its own, whose seed follows from the run's."""
    return torch.Generator().manual_seed(int(torch.randint(2**31, ())))


class Mixture(FittedState):
    """A mixture of Gaussians with full covariances: how rare a cell is under p(f) = Σ_k π_k N(f; μ_k, Σ_k).

    z(f) = √(2/F (log c - log p(f))) with c = Σ_k π_k N(μ_k; μ_k, Σ_k), the highest that p could be. Of one Gaussian that is the
    Mahalanobis distance per dimension, |P (f - μ)| / √F. K is `components` at most, one for every `CELLS_PER_COMPONENT` F cells
    and every `IMAGES_PER_COMPONENT` images; `ridge` is added to every variance; expectation-maximisation has so many iterations.
    """

    def __init__(self, components: int, ridge: float = 1e-2, iterations: int = 15) -> None:
        super().__init__()
        check_whole("components", components, 1)
        self.components, self.ridge, self.iterations = components, ridge, iterations
        self.fitted_images = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.log_weights = nn.Buffer(torch.zeros(0))  # (K,), with each normalising constant
        self.means = nn.Buffer(torch.zeros(0))  # (K, F)
        self.factors = nn.Buffer(torch.zeros(0))  # (K, F, F): P, upper triangular, with P Pᵀ = Σ⁻¹

    @full_precision
    def fit(self, rows: Tensor, images: int, seed: int = 0) -> None:
        """Fit to cells (N, F) of so many images, from a k-means++ start drawn by `seed`."""
        count, features = rows.shape
        enough = min(count // (CELLS_PER_COMPONENT * features), images // IMAGES_PER_COMPONENT)
        gaussians = max(1, min(self.components, enough))
        rows = rows.to(self.means.device, torch.float32)
        weights, means, covariances = fit_gaussians(rows, gaussians, self.ridge, self.iterations, seed)
        factors = inverse_factors(shrunk(covariances, oas(covariances, weights * count)))
        self.log_weights = (weights.log() + log_constants(factors)).to(self.log_weights)
        self.means = means.to(self.means)
        self.factors = factors.to(self.factors)
        self.fitted_images.fill_(images)

    @full_precision
    def forward(self, features: Tensor) -> Tensor:
        """Z of every cell: (B, F, h, w) -> (B, 1, h, w)."""
        rows = features.movedim(1, -1).flatten(0, -2)  # (N, F)
        log_density = torch.logsumexp(self.log_weights - 0.5 * squared_distances(rows, self.means, self.factors), dim=1)
        rarity = (2 / rows.shape[1] * (torch.logsumexp(self.log_weights, 0) - log_density)).clamp(min=0).sqrt()
        return rarity.view(features.shape[0], 1, *features.shape[2:])


def fit_to_cells(mixture: Mixture, maps: Iterable[Tensor], count: int) -> None:
    """Fit a mixture to so many cells, drawn from the local features (B, F, h, w) of all training images."""
    generator, counts = run_generator(), []

    def counted(x: Tensor) -> Tensor:
        counts.append(len(x))
        return x

    rows = sample_cells(map(counted, maps), count, generator)
    give_back_memory()  # of what was not drawn
    mixture.fit(rows, sum(counts), generator.initial_seed())


class GlobalGaussian(FittedState):
    """A Gaussian over one vector per image: Mahalanobis' distance per dimension.

    d(v) = √(1/D uᵀ ((1 - ρ) C + ρ I)⁻¹ u) with u = (v - μ) / σ and C the correlation matrix; ρ is that of `oas`, and at least
    `shrinkage`. σ² counts `EXTRA_IMAGES` in, since some dimensions of few images vary by chance far less than they do.
    """

    def __init__(self, shrinkage: float = 0.03) -> None:
        super().__init__()
        self.shrinkage = shrinkage
        self.fitted_images = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.mean = nn.Buffer(torch.zeros(0))
        self.matrix = nn.Buffer(torch.zeros(0))  # (D, D)

    @full_precision
    def fit(self, vectors: Tensor) -> None:
        """Fit to the rows of (N, D)."""
        rows = vectors.cpu().double()  # not every device has float64
        count, dimensions = rows.shape
        mean, variance = rows.mean(0), rows.var(0, correction=0)
        variance = (count * variance + EXTRA_IMAGES * variance.mean()) / (count + EXTRA_IMAGES)
        deviation = variance.clamp(min=1e-12).sqrt()
        scaled = (rows - mean) / deviation
        correlation = scaled.T @ scaled / count
        values, axes = torch.linalg.eigh(shrunk(correlation, oas(correlation, count).clamp(min=self.shrinkage)))
        values = values.where(values > 0, 1.0)  # images that are all the same say nothing of any direction
        self.mean = mean.to(self.mean)
        self.matrix = (axes / (dimensions * values).sqrt() / deviation[:, None]).to(self.matrix)
        self.fitted_images.fill_(count)

    @property
    def support(self) -> float:
        """Images per dimension, 1 at most: with fewer, much of the covariance is what shrinkage put there."""
        return min(1.0, float(self.fitted_images) / max(1, len(self.mean)))

    def whiten(self, vectors: Tensor) -> Tensor:
        """(B, D) -> (B, D), where the Euclidean distance is Mahalanobis' per dimension."""
        return (vectors - self.mean) @ self.matrix

    @full_precision
    def forward(self, vectors: Tensor) -> Tensor:
        """Mahalanobis' distance per dimension: (B, D) -> (B,)."""
        return self.whiten(vectors).norm(dim=1)


class NearestNormal(GlobalGaussian):
    """Distance to the nearest of many normal images, in the space that the Gaussian whitens.

    d(v) = min_i |W (v - v_i)|: an image of one of several kinds lies close only to its own kind, where one Gaussian would span
    them all. Of more than `samples` images as many are drawn at random.
    """

    def __init__(self, shrinkage: float = 0.03, samples: int = 2000) -> None:
        super().__init__(shrinkage)
        check_whole("samples", samples, 1)
        self.samples = samples
        self.memory = nn.Buffer(torch.zeros(0))  # (M, D), whitened

    @full_precision
    def fit(self, vectors: Tensor) -> None:
        """Fit the Gaussian to the rows of (N, D), and remember them or some of them."""
        super().fit(vectors)
        if len(vectors) > self.samples:
            chosen = torch.randperm(len(vectors), generator=run_generator())[: self.samples]
            vectors = vectors[chosen.to(vectors.device)]
        self.memory = self.whiten(vectors.to(self.mean))

    @full_precision
    def forward(self, vectors: Tensor) -> Tensor:
        """Euclidean distance in the whitened space: (B, D) -> (B,)."""
        rows = self.whiten(vectors)
        squared = rows.square().sum(1, keepdim=True) - 2 * rows @ self.memory.T + self.memory.square().sum(1)
        return squared.amin(1).clamp(min=0).sqrt()
