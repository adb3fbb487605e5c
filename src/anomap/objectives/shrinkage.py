"""How far a covariance estimated from few samples is shrunk, so that its inverse stays of use."""

import torch
from torch import Tensor


def oas(covariance: Tensor, samples: Tensor | float) -> Tensor:
    """ρ of `shrunk`: oracle approximating shrinkage (Chen et al. 2010, eq. 23; as in scikit-learn), from the covariance alone.

    (..., F, F) and the number of samples it was estimated from, (...) or one for all -> (...), in [0, 1]; near 0 for many.
    """
    features = covariance.shape[-1]
    mean_square = covariance.square().mean((-2, -1))  # tr(S²) / F²
    squared_mean = (covariance.diagonal(dim1=-2, dim2=-1).mean(-1)).square()  # (tr S / F)²
    spread = (samples + 1) * (mean_square - squared_mean / features)
    return torch.where(spread > 0, (mean_square + squared_mean) / spread, 1.0).clamp(max=1.0)


def shrunk(covariance: Tensor, intensity: Tensor | float) -> Tensor:
    """(1 - ρ) S + ρ (tr S / F) I: (..., F, F) and (...) -> (..., F, F)."""
    rho = torch.as_tensor(intensity, dtype=covariance.dtype)[..., None, None]
    mean = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    return (1 - rho) * covariance + rho * mean * torch.eye(covariance.shape[-1], dtype=covariance.dtype)
