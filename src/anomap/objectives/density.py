"""Densities of normal features: Gaussian and mixture, fitted by scikit-learn, evaluated in torch."""

import math
import warnings
from collections.abc import Iterable
from itertools import pairwise

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from torch import Tensor

from anomap.objectives.base import FittedState

_ROWS, _BLOCKS = 1024, 4  # of `squared_distances`, measured: 3 times as fast as a component after the other


def sample_cells(maps: Iterable[Tensor], count: int, generator: torch.Generator) -> Tensor:
    """Cells (count, F), or all there are, drawn without repetition from maps (B, F, h, w); in one pass, without holding more.

    Every cell gets a random key, and those with the smallest keys stay.
    """
    rows, keys = torch.zeros(0), torch.zeros(0, dtype=torch.float64)
    for x in maps:
        drawn = torch.rand(x.shape[0] * x.shape[2] * x.shape[3], generator=generator, dtype=torch.float64)
        low = (drawn < (keys.max() if len(keys) >= count else torch.inf)).nonzero().flatten()
        cells = x.movedim(1, -1).flatten(0, -2)[low.to(x.device)].cpu()
        rows, keys = (cells, drawn) if not len(keys) else (torch.cat([rows, cells]), torch.cat([keys, drawn[low]]))
        if len(keys) > count:
            kept = keys.topk(count, largest=False).indices
            rows, keys = rows[kept], keys[kept]
    return rows


def run_generator() -> torch.Generator:
    """A generator of its own, whose seed follows from the run's."""
    return torch.Generator().manual_seed(int(torch.randint(2**31, ())))


def squared_distances(rows: Tensor, means: Tensor, factors: Tensor) -> Tensor:
    """Mahalanobis' to each of K Gaussians, |(f - μ_k) P_k|²: (N, F) -> (N, K).

    All k in one product, for as many rows as the processor's caches hold. The first columns of a triangular factor need
    the first features only: in four blocks of columns that saves three eighths of the operations.

    Args:
        rows: (N, F).
        means: (K, F).
        factors: (K, F, F), upper triangular.
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
    """A mixture of Gaussians with full covariances: log p(f) = log Σ_k π_k N(f; μ_k, Σ_k).

    Args:
        components: K; 1 is a single Gaussian.
        ridge: added to every variance, so that a component of few points stays a density.
        iterations: of expectation-maximisation.
    """

    log_weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, components: int, ridge: float = 1e-2, iterations: int = 15) -> None:
        super().__init__()
        self.components, self.ridge, self.iterations = components, ridge, iterations
        self.register_buffer("log_weights", torch.zeros(0))  # (K,)
        self.register_buffer("means", torch.zeros(0))  # (K, F)
        self.register_buffer("factors", torch.zeros(0))  # (K, F, F): P, upper triangular, with P Pᵀ = Σ⁻¹

    def fit(self, rows: Tensor, seed: int = 0) -> None:
        """Fit to the rows of (N, F), from a k-means++ start drawn by `seed`."""
        model = GaussianMixture(
            min(self.components, len(rows)),
            covariance_type="full",
            reg_covar=self.ridge,
            max_iter=self.iterations,
            init_params="k-means++",
            random_state=seed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of iterations is a budget, not a failure
            model.fit(rows.float().cpu().numpy())  # single precision halves the time
        factors = torch.from_numpy(model.precisions_cholesky_).double()
        constant = factors.diagonal(dim1=1, dim2=2).log().sum(1) - 0.5 * rows.shape[1] * math.log(2 * math.pi)
        self.log_weights = (torch.from_numpy(model.weights_).log() + constant).to(
            rows
        )  # with each normalising constant
        self.means = torch.from_numpy(model.means_).to(rows)
        self.factors = factors.to(rows)

    def forward(self, features: Tensor) -> Tensor:
        """-log p of every cell: (B, F, h, w) -> (B, 1, h, w)."""
        rows = features.movedim(1, -1).flatten(0, -2)  # (N, F)
        energy = -torch.logsumexp(self.log_weights - 0.5 * squared_distances(rows, self.means, self.factors), dim=1)
        return energy.view(features.shape[0], 1, *features.shape[2:])


class GlobalGaussian(FittedState):
    """A Gaussian over one vector per image, each dimension standardised and shrunk towards independence.

    d(v) = (v - μ)ᵀ ((1 - ρ) C + ρ I)⁻¹ (v - μ) with C the correlation matrix.

    Args:
        shrinkage: ρ; with fewer images than dimensions C alone has no inverse.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, shrinkage: float = 0.03) -> None:
        super().__init__()
        self.shrinkage = shrinkage
        self.register_buffer("mean", torch.zeros(0))
        self.register_buffer("matrix", torch.zeros(0))

    def fit(self, vectors: Tensor) -> None:
        """Fit to the rows of (N, D)."""
        vectors = vectors.double()
        mean, deviation = vectors.mean(0), vectors.std(0, correction=0).clamp(min=1e-9)
        scaled = (vectors - mean) / deviation
        correlation = scaled.T @ scaled / len(vectors)
        shrunk = (1 - self.shrinkage) * correlation + self.shrinkage * torch.eye(vectors.shape[1], dtype=vectors.dtype)
        values, axes = torch.linalg.eigh(shrunk)
        self.mean = mean.float()
        self.matrix = (axes / values.sqrt() / deviation[:, None]).float()  # (D, D)

    def whiten(self, vectors: Tensor) -> Tensor:
        """(B, D) -> (B, D), where the Euclidean distance is Mahalanobis'."""
        return (vectors - self.mean) @ self.matrix

    def forward(self, vectors: Tensor) -> Tensor:
        """Squared Mahalanobis distance: (B, D) -> (B,)."""
        return self.whiten(vectors).square().sum(1)


class NearestNormal(GlobalGaussian):
    """Distance to the nearest of many normal images, in the space that the Gaussian whitens.

    d(v) = min_i |W (v - v_i)|. Where there are several kinds of normal images, one Gaussian is wide enough for all of them
    together; each lies close only to its own kind.

    Args:
        shrinkage: see `GlobalGaussian`.
        samples: how many normal images are remembered, drawn at random where there are more.
    """

    memory: Tensor

    def __init__(self, shrinkage: float = 0.03, samples: int = 2000) -> None:
        super().__init__(shrinkage)
        self.samples = samples
        self.register_buffer("memory", torch.zeros(0))  # (M, D), whitened

    def fit(self, vectors: Tensor) -> None:
        """Fit the Gaussian to the rows of (N, D), and remember them or some of them."""
        super().fit(vectors)
        kept = vectors
        if len(vectors) > self.samples:
            kept = vectors[torch.randperm(len(vectors), generator=run_generator())[: self.samples]]
        self.memory = self.whiten(kept.float())

    def forward(self, vectors: Tensor) -> Tensor:
        """Euclidean distance in the whitened space: (B, D) -> (B,)."""
        rows = self.whiten(vectors)
        squared = rows.square().sum(1, keepdim=True) - 2 * rows @ self.memory.T + self.memory.square().sum(1)
        return squared.amin(1).clamp(min=0).sqrt()
