"""PCA whitening of feature maps, learned in one pass over batches."""

import torch
from torch import Tensor

from anomap.objectives.base import FittedState
from anomap.objectives.precision import full_precision
from anomap.objectives.shrinkage import oas


class Whitening(FittedState):
    """Decorrelates channels and gives each variance 1: φ(f) = (f - μ) W with W Wᵀ = Σ⁻¹ (PCA whitening).

    Rare directions, in which the large variances of normal images drown defects, then count as much as frequent ones.

    Args:
        channels: F.
        ridge: added to every variance, as a share of their mean; of few cells the intensity of `oas` if that is more.
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, channels: int, ridge: float = 1e-4) -> None:
        super().__init__()
        self.ridge = ridge
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("matrix", torch.eye(channels))
        self._reset()

    def _reset(self) -> None:
        self._count = 0
        self._origin, self._total, self._products = None, torch.zeros(()), torch.zeros(())

    @full_precision
    def add(self, features: Tensor) -> None:
        """Count the cells of (B, F, h, w) in.

        Products are made on the features' device in float32, around the first batch's mean so that nothing cancels, and
        summed in float64 on the CPU: not every device has float64.
        """
        rows = features.transpose(0, 1).flatten(1)  # (F, B h w)
        if self._origin is None:
            self._origin = rows.mean(1, keepdim=True)
        rows = rows - self._origin
        self._total = self._total + rows.sum(1).cpu().double()
        self._products = self._products + (rows @ rows.T).cpu().double()
        self._count += rows.shape[1]

    def finish(self) -> None:
        """Learn μ and W from all that was added."""
        assert self._origin is not None, "nothing was added"
        offset = self._total / self._count
        covariance = self._products / self._count - torch.outer(offset, offset)
        values, vectors = torch.linalg.eigh(covariance)
        ridge = oas(covariance, self._count).clamp(min=self.ridge)
        self.mean.copy_(self._origin[:, 0].cpu() + offset)
        self.matrix.copy_(vectors / (values.clamp(min=0) + ridge * values.mean()).sqrt())
        self._reset()

    @full_precision
    def forward(self, features: Tensor) -> Tensor:
        """(B, F, h, w) -> the same shape.

        A matrix product and no 1x1 convolution: by default PyTorch rounds convolutions to TF32 on a GPU, not products.
        """
        return ((features.movedim(1, -1) - self.mean) @ self.matrix).movedim(-1, 1)


class Scaling(FittedState):
    """Gives each channel mean 0 and variance 1: (f - μ) / σ.

    Args:
        channels: F; 0 is a scaling of nothing.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self._sums: list[Tensor] = []  # of each batch: number of cells, means, mean squares

    @full_precision
    def add(self, features: Tensor) -> None:
        """Count the cells of (B, F, h, w) in."""
        cells = torch.full_like(self.mean, features.numel() / max(1, features.shape[1]))
        moments = (cells, features.mean((0, 2, 3)), features.square().mean((0, 2, 3)))
        self._sums.append(torch.stack(moments).cpu().double())

    def finish(self) -> None:
        """Learn μ and σ from all that was added."""
        sums = torch.stack(self._sums)  # (batches, 3, F)
        shares = sums[:, 0] / sums[:, 0].sum(0)
        mean, square = (shares * sums[:, 1]).sum(0), (shares * sums[:, 2]).sum(0)
        self.mean.copy_(mean)
        self.deviation.copy_((square - mean.square()).clamp(min=1e-12).sqrt())
        self._sums = []

    @full_precision
    def forward(self, features: Tensor) -> Tensor:
        """(B, F, h, w) -> the same shape."""
        return (features - self.mean[:, None, None]) / self.deviation[:, None, None]
