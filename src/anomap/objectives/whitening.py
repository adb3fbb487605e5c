"""PCA whitening of feature maps, learned in one pass over batches."""

import torch
from torch import Tensor
from torch.nn import functional as F

from anomap.objectives.base import FittedState


class Whitening(FittedState):
    """Decorrelates channels and gives each variance 1: φ(f) = (f - μ) W with W Wᵀ = Σ⁻¹ (PCA whitening).

    Rare directions, in which the large variances of normal images drown defects, then count as much as frequent ones.

    Args:
        channels: F.
        ridge: added to every variance, as a share of their mean.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, channels: int, ridge: float = 1e-4) -> None:
        super().__init__()
        self.ridge = ridge
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("matrix", torch.eye(channels))
        self._count = 0
        self._total, self._products = torch.zeros(()), torch.zeros(())

    def add(self, features: Tensor) -> None:
        """Count the cells of (B, F, h, w) in."""
        rows = features.transpose(0, 1).flatten(1).double()  # (F, B h w)
        self._total = self._total + rows.sum(1)
        self._products = self._products + rows @ rows.T
        self._count += rows.shape[1]

    def finish(self) -> None:
        """Learn μ and W from all that was added."""
        mean = self._total / self._count
        values, vectors = torch.linalg.eigh(self._products / self._count - torch.outer(mean, mean))
        self.mean.copy_(mean)
        self.matrix.copy_(vectors / (values.clamp(min=0) + self.ridge * values.mean()).sqrt())
        self._count, self._total, self._products = 0, torch.zeros(()), torch.zeros(())

    def forward(self, features: Tensor) -> Tensor:
        """(B, F, h, w) -> the same shape."""
        return F.conv2d(features - self.mean[:, None, None], self.matrix.T[:, :, None, None])
