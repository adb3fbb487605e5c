"""What a detector learns from the calibration normals: the scale of its score's parts, their scores, the thresholds."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from anomap.detection.fusion import fuse
from anomap.objectives.base import FittedState


class Standardiser(nn.Module):
    """Puts the parts of a score on one scale and fuses them: s = fuse((p - μ) / σ, w).

    μ and σ are those of the images given to `fit`. A score of a single part stays raw: μ = 0, σ = 1.

    Args:
        parts: K.
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
        # One image, or nearly equal ones, show next to no deviation. Dividing by that would blow the score up, so σ is
        # at least a tenth of |μ| for one image, and less the more there are.
        deviation = deviation.maximum(mean.abs() / (10 * len(parts) ** 2))
        self.mean.copy_(mean)
        self.deviation.copy_(torch.where(deviation > 0, deviation, 1.0))

    def forward(self, parts: Tensor) -> Tensor:
        """(B, K) -> (B,)."""
        return fuse((parts - self.mean) / self.deviation, self.weights)


class Calibration(FittedState):
    """Scores of the N calibration normals, the peaks of their maps, and the thresholds that came of them.

    It stays on the CPU wherever the model goes: scoring never reads it, and MPS has no float64.

    Attributes:
        scores: (N,) of all calibration normals.
        scaling: bool (N,), True = set the scale of the score's parts, False = sets the thresholds.
        map_peaks: (N,), the highest value of each map.
        map_middle: the median of a typical normal map.
        threshold: float64, so that the stored threshold is the reported one to the last digit.
        pixel_threshold: of the map.
    """

    scores: Tensor
    scaling: Tensor
    map_peaks: Tensor
    map_middle: Tensor
    threshold: Tensor
    pixel_threshold: Tensor

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


def too_few_images(minimum: Mapping[str, int], names: Sequence[str], images: int) -> list[str]:
    """The parts that need more training images than there are; none if that would leave no part at all."""
    few = [name for name in names if images < minimum.get(name, 0)]
    return few if len(few) < len(names) else []
