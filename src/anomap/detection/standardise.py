"""What a detector learns from the calibration normals: the scale of its score's parts, their scores, the thresholds."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from anomap.objectives.base import FittedState, compressed


def fuse(parts: Tensor, weights: Tensor) -> Tensor:
    """Anomaly scores (B,) = Σ_k w_k c(s_k), c linear up to 3 standard deviations and logarithmic above.

    A part alone is the score itself. A plain sum lets one part with a heavy tail drown the others (docs/results.md).

    Args:
        parts: (B, K), standardised, higher = more abnormal.
        weights: (K,), ≥ 0. A part of weight 0 is left out, even where it is not finite.
    """
    fused = parts if parts.shape[1] == 1 else compressed(parts)
    return torch.where(weights > 0, fused * weights, 0.0).sum(1)


class Standardiser(nn.Module):
    """Puts the K parts of a score on one scale and fuses them: s = fuse((p - μ) / σ, w).

    μ and σ are those of the images given to `fit`. A score of a single part stays raw: μ = 0, σ = 1.
    """

    mean: Tensor
    deviation: Tensor
    weights: Tensor

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(parts))
        self.register_buffer("deviation", torch.ones(parts))
        self.register_buffer("weights", torch.ones(parts))

    @property
    def scales(self) -> bool:
        """Whether there is anything to scale: more than one part that counts."""
        return int((self.weights > 0).sum()) > 1

    def fit(self, parts: Tensor) -> None:
        """Learn μ and σ from the parts (N, K) of normal images; without images, or with one part, nothing is scaled."""
        self.mean.zero_()
        self.deviation.fill_(1)
        if not self.scales or not len(parts):
            return
        mean, deviation = parts.mean(0), parts.std(0, correction=0)
        # Few or nearly equal images show next to no deviation, and dividing by it would blow the score up: σ is at least
        # a tenth of |μ| for one image, and less the more there are.
        deviation = deviation.maximum(mean.abs() / (10 * len(parts) ** 2))
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 0, deviation, 1.0))

    def forward(self, parts: Tensor) -> Tensor:
        """(B, K) -> (B,)."""
        return fuse((parts - self.mean) / self.deviation, self.weights)


class Calibration(FittedState):
    """What is kept of the N calibration normals. It stays on the CPU: scoring never reads it, and MPS has no float64."""

    scores: Tensor  # (N,)
    scaling: Tensor  # bool (N,), True = sets the scale of the score's parts, False = sets the thresholds
    map_peaks: Tensor  # (N,), the highest value of each map
    map_middle: Tensor  # the median of a typical normal map
    threshold: Tensor  # float64: the reported one to the last digit
    pixel_threshold: Tensor  # of the map

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scores", torch.zeros(0))
        self.register_buffer("scaling", torch.zeros(0, dtype=torch.bool))
        self.register_buffer("map_peaks", torch.zeros(0))
        self.register_buffer("map_middle", torch.zeros(()))
        self.register_buffer("threshold", torch.full((), torch.nan, dtype=torch.float64))
        self.register_buffer("pixel_threshold", torch.full((), torch.nan))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Calibration":
        """Follow the model to no device and no type."""
        del fn, recurse
        return self
