"""Expectation-maximisation of a mixture of Gaussians with full covariances, on any device (Bishop 2006, eqs. 9.23 to 9.27).

Start, ridge and end are those of scikit-learn's `GaussianMixture`, and so is the result up to rounding. It takes a fraction of
the time, since in many dimensions nearly every row belongs to one Gaussian, and only rows that a Gaussian shares enter its sums.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor

TOLERANCE = 1e-3  # of the mean log-likelihood: less gain ends the iterations
NEGLIGIBLE = 1e-6  # share of a row in a Gaussian that its sums leave out
_BLOCKS = 7  # of columns in `squared_distances`
_ROWS = 512  # that it takes at once: as many as a CPU's caches hold
_ROWS_ON_GPU = 65_536  # which wants few and large products


def fit_gaussians(rows: Tensor, count: int, ridge: float, iterations: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (K,), means (K, F) and covariances (K, F, F) of K = `count` Gaussians, in float64 on the CPU, for rows (N, F).

    From a k-means++ start that `seed` draws; `ridge` is added to every variance; `iterations` at most.
    """
    from sklearn.cluster import kmeans_plusplus  # 65 MB, which scoring does without

    features = rows.shape[1]
    start = kmeans_plusplus(rows.cpu().numpy(), count, random_state=seed)[1]
    weights = torch.full((count,), 1 / count, dtype=torch.float64)
    means = rows[torch.from_numpy(start).to(rows.device)].cpu().double()
    covariances = (ridge * torch.eye(features, dtype=torch.float64)).expand(count, -1, -1)
    likelihood = -math.inf
    for _ in range(iterations):
        factors = inverse_factors(covariances)
        joint = (weights.log() + log_constants(factors)).to(rows) - 0.5 * squared_distances(
            rows, means.to(rows), factors.to(rows)
        )
        total = joint.logsumexp(1)
        weights, means, covariances = _moments(rows, (joint - total[:, None]).exp(), ridge)
        before, likelihood = likelihood, float(total.mean())
        if abs(likelihood - before) < TOLERANCE:
            break
    return weights, means, covariances


def _moments(rows: Tensor, shares: Tensor, ridge: float) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, means and covariances of (N, F), of which (N, K) says how much each row belongs to each Gaussian."""
    totals, means, covariances = [], [], []
    for share in shares.unbind(1):
        among = (share > NEGLIGIBLE).nonzero()[:, 0]
        share, own = share[among, None], rows[among]
        total = share.sum() + 10 * torch.finfo(share.dtype).eps  # a Gaussian may be left by all
        mean = (share * own).sum(0) / total
        own = own - mean
        totals.append(total)
        means.append(mean)
        covariances.append((share * own).T @ own / total)
    weights, means, covariances = (torch.stack(found).cpu().double() for found in (totals, means, covariances))
    covariances.diagonal(dim1=1, dim2=2).add_(ridge)
    return weights / weights.sum(), means, covariances


def inverse_factors(covariances: Tensor) -> Tensor:
    """P_k, upper triangular, with P_k P_kᵀ = Σ_k⁻¹: (K, F, F) -> (K, F, F)."""
    lower = torch.linalg.cholesky(covariances)
    unit = torch.eye(lower.shape[-1], dtype=lower.dtype).expand_as(lower)
    return torch.linalg.solve_triangular(lower, unit, upper=False).transpose(1, 2).contiguous()


def log_constants(factors: Tensor) -> Tensor:
    """Log of a Gaussian's normalising constant, (2π)^(-F/2) |Σ|^(-1/2), from its P: (K, F, F) -> (K,)."""
    return factors.diagonal(dim1=1, dim2=2).log().sum(1) - 0.5 * factors.shape[-1] * math.log(2 * math.pi)


def squared_distances(rows: Tensor, means: Tensor, factors: Tensor) -> Tensor:
    """Mahalanobis' to each of K Gaussians, |(f - μ_k) P_k|²: (N, F), (K, F), (K, F, F) upper triangular -> (N, K).

    All k in one product, for many rows at once, in blocks of columns: the first columns of a triangular factor need
    the first features only, which saves three sevenths of the operations. Rows lie side by side, so that sums over a block's
    columns add whole vectors.
    """
    count, features = means.shape
    offsets = torch.einsum("kf,kfg->kg", means, factors)  # μ_k P_k
    edges = sorted({features * block // _BLOCKS for block in range(_BLOCKS + 1)})
    blocks = [
        (end, factors[:, :end, begin:end].transpose(1, 2).reshape(-1, end), -offsets[:, begin:end].reshape(-1, 1))
        for begin, end in pairwise(edges)
    ]
    if torch.compiler.is_exporting():  # how many rows there will be is not known
        parts = [(rows[:, :end] @ factor.T + bias.T).square().unflatten(1, (count, -1)) for end, factor, bias in blocks]
        return torch.stack([part.sum(2) for part in parts]).sum(0)
    found = rows.new_empty(count, len(rows))
    at_once = _ROWS if rows.device.type == "cpu" else _ROWS_ON_GPU
    for some, total in zip(rows.T.split(at_once, 1), found.split(at_once, 1), strict=True):
        total.zero_()
        for end, factor, bias in blocks:
            total += torch.addmm(bias, factor, some[:end]).square_().view(count, -1, total.shape[1]).sum(1)
    return found.T
