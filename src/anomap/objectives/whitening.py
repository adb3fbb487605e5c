"""Closed-form statistics of features, in full precision: shrunk covariances; whitening and scaling of feature maps.

`Whitening` and `Scaling` learn in one pass over batches: `add` each, then `finish`.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from anomap.objectives.base import FittedState

Method = TypeVar("Method", bound=Callable[..., Any])


def full_precision(method: Method) -> Method:
    """A method that computes in float32 also under mixed precision; its first argument, if of lower precision, is raised.

    A whitening magnifies rare directions, and energies are differences of large numbers: bfloat16 would tell equal images apart.
    """

    @functools.wraps(method)
    def exact(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_exporting():  # an exported graph knows no autocast
            return method(self, x, *args, **kwargs)
        with torch.autocast(x.device.type, enabled=False):
            low = x.dtype in (torch.bfloat16, torch.float16)
            return method(self, x.float() if low else x, *args, **kwargs)

    return exact  # pyright: ignore[reportReturnType]


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


class Whitening(FittedState):
    """Decorrelates F channels and gives each variance 1: φ(f) = (f - μ) W with W Wᵀ = Σ⁻¹ (PCA whitening).

    Rare directions then count as much as those in which the large variances of normal images drown defects. To every variance
    `ridge` is added, as a share of their mean; or the intensity of `oas`, if that is more.
    """

    def __init__(self, channels: int, ridge: float = 1e-4) -> None:
        super().__init__()
        self.ridge = ridge
        self.mean = nn.Buffer(torch.zeros(channels))
        self.matrix = nn.Buffer(torch.eye(channels))
        self._origin: Tensor | None = None  # (F, 1), around which is summed

    @full_precision
    def add(self, features: Tensor) -> None:
        """Count the cells of (B, F, h, w) in.

        Products are made on the features' device in float32, around the first batch's mean so that nothing cancels, and
        summed in float64 on the CPU: not every device has float64.
        """
        rows = features.transpose(0, 1).flatten(1)  # (F, B h w)
        if self._origin is None:
            self._origin, self._count = rows.mean(1, keepdim=True), 0
            self._total, self._products = torch.zeros(()), torch.zeros(())
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
        variances = values.clamp(min=0) + ridge * values.mean()
        variances = variances.where(variances > 0, 1.0)  # where all cells are the same
        self.matrix.copy_(vectors / variances.sqrt())
        self._origin = None

    @full_precision
    def forward(self, features: Tensor) -> Tensor:
        """(B, F, h, w) -> the same shape; no 1x1 convolution, which PyTorch would round to TF32 on a GPU."""
        return ((features.movedim(1, -1) - self.mean) @ self.matrix).movedim(-1, 1)


class Scaling(FittedState):
    """Gives each of F channels mean 0 and variance 1: (f - μ) / σ."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(channels))
        self.deviation = nn.Buffer(torch.ones(channels))
        self._sums: list[Tensor] = []  # of each batch: number of cells, means, mean squares

    @full_precision
    def add(self, features: Tensor) -> None:
        """Count the cells of (B, F, h, w) in."""
        cells = torch.full_like(self.mean, features.numel() / max(1, features.shape[1]))
        moments = cells, features.mean((0, 2, 3)), features.square().mean((0, 2, 3))
        self._sums.append(torch.stack(moments).cpu().double())

    def finish(self) -> None:
        """Learn μ and σ from all that was added."""
        cells, means, squares = torch.stack(self._sums).unbind(1)  # (batches, F) each
        shares = cells / cells.sum(0)
        mean, square = (shares * means).sum(0), (shares * squares).sum(0)
        self.mean.copy_(mean)
        self.deviation.copy_((square - mean.square()).clamp(min=1e-12).sqrt())
        self._sums = []

    @full_precision
    def forward(self, features: Tensor) -> Tensor:
        """(B, F, h, w) -> the same shape."""
        return (features - self.mean[:, None, None]) / self.deviation[:, None, None]
