"""Densities of normal features: Gaussian and mixture, fitted by scikit-learn, evaluated in torch.

All give a root mean square deviation per dimension, in standard deviations: normal images lie around 1, whatever the features.
Covariances are shrunk the more the fewer samples there are: 3 images are enough.
"""

import math
import warnings
from collections.abc import Iterable
from itertools import pairwise

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from anomap.objectives.base import FittedState
from anomap.objectives.whitening import full_precision, oas, shrunk

CELLS_PER_COMPONENT = 4  # cells of a component for each dimension, at least
EXTRA_IMAGES = 1  # that vary in every dimension as it does on average, added to those a Gaussian is fitted to
_ROWS, _BLOCKS = 1024, 4  # of `squared_distances`, measured: 3 times as fast as a component after the other


def sample_cells(maps: Iterable[Tensor], count: int, generator: torch.Generator) -> Tensor:
    """Cells (count, F), or all there are, drawn from maps (B, F, h, w) in one pass: those with the smallest random keys."""
    rows, keys = torch.zeros(0), torch.zeros(0, dtype=torch.float64)
    for x in maps:
        drawn = torch.rand(x.shape[0] * x.shape[2] * x.shape[3], generator=generator, dtype=torch.float64)
        low = (drawn < (keys.max() if len(keys) >= count else torch.inf)).nonzero().flatten()
        cells = x.movedim(1, -1).flatten(0, -2)[low.to(x.device)].cpu()
        rows, keys = torch.cat([rows, cells]), torch.cat([keys, drawn[low]])
        if len(keys) > count:
            kept = keys.topk(count, largest=False).indices
            rows, keys = rows[kept], keys[kept]
    return rows


def run_generator() -> torch.Generator:
    """A generator of its own, whose seed follows from the run's."""
    return torch.Generator().manual_seed(int(torch.randint(2**31, ())))


def squared_distances(rows: Tensor, means: Tensor, factors: Tensor) -> Tensor:
    """Mahalanobis' to each of K Gaussians, |(f - μ_k) P_k|²: (N, F), (K, F), (K, F, F) upper triangular -> (N, K).

    All k in one product, for as many rows as caches hold, in four blocks of columns: the first columns of a triangular
    factor need the first features only, which saves three eighths of the operations.
    """
    offsets = torch.einsum("kf,kfg->kg", means, factors)  # μ_k P_k
    if torch.compiler.is_exporting():  # how many rows there will be is not known
        each = [(rows @ factor - offset).square().sum(1) for factor, offset in zip(factors, offsets, strict=True)]
        return torch.stack(each, dim=1)
    count, features = means.shape
    edges = sorted({features * block // _BLOCKS for block in range(_BLOCKS + 1)})
    columns = [
        (end, factors[:, :end, begin:end].transpose(0, 1).reshape(end, -1), -offsets[:, begin:end].flatten())
        for begin, end in pairwise(edges)
    ]
    found = []
    for some in rows.split(_ROWS):
        blocks = [torch.addmm(bias, some[:, :end], factor) for end, factor, bias in columns]
        found.append(sum(block.square_().view(len(some), count, -1).sum(2) for block in blocks))
    return torch.cat(found)


class Mixture(FittedState):
    """A mixture of Gaussians with full covariances: how rare a cell is under p(f) = Σ_k π_k N(f; μ_k, Σ_k).

    z(f) = √(2/F (log c - log p(f))) with c = Σ_k π_k N(μ_k; μ_k, Σ_k), the highest that p could be. Of one Gaussian that is the
    Mahalanobis distance per dimension, |P (f - μ)| / √F. K is `components` at most, one for every `CELLS_PER_COMPONENT` F cells;
    `ridge` is added to every variance; expectation-maximisation has so many iterations.
    """

    def __init__(self, components: int, ridge: float = 1e-2, iterations: int = 15) -> None:
        super().__init__()
        self.components, self.ridge, self.iterations = components, ridge, iterations
        self.fitted_images = nn.Buffer(torch.zeros((), dtype=torch.long))
        self.log_weights = nn.Buffer(torch.zeros(0))  # (K,), with each normalising constant
        self.means = nn.Buffer(torch.zeros(0))  # (K, F)
        self.factors = nn.Buffer(torch.zeros(0))  # (K, F, F): P, upper triangular, with P Pᵀ = Σ⁻¹

    def fit(self, rows: Tensor, images: int, seed: int = 0) -> None:
        """Fit to cells (N, F) of so many images, from a k-means++ start drawn by `seed`."""
        count, features = rows.shape
        model = GaussianMixture(
            max(1, min(self.components, count // (CELLS_PER_COMPONENT * features))),
            covariance_type="full",
            reg_covar=self.ridge,
            max_iter=self.iterations,
            init_params="k-means++",
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of iterations is a budget, not a failure
            model.fit(rows.float().cpu().numpy())  # single precision halves the time
        weights, covariances = (torch.from_numpy(found).double() for found in (model.weights_, model.covariances_))
        lower = torch.linalg.cholesky(shrunk(covariances, oas(covariances, weights * count)))
        unit = torch.eye(features, dtype=lower.dtype).expand_as(lower)
        factors = torch.linalg.solve_triangular(lower, unit, upper=False).transpose(1, 2).contiguous()
        constant = factors.diagonal(dim1=1, dim2=2).log().sum(1) - 0.5 * features * math.log(2 * math.pi)
        self.log_weights = (weights.log() + constant).to(self.log_weights)
        self.means = torch.from_numpy(model.means_).to(self.means)
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
        self.mean = mean.to(self.mean)
        self.matrix = (axes / (dimensions * values).sqrt() / deviation[:, None]).to(self.matrix)
        self.fitted_images.fill_(count)

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
