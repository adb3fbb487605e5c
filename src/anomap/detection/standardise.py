"""What a detector learns from the calibration normals: the scale of its score's parts, their scores, the thresholds."""

import torch
from torch import Tensor

from anomap.objectives.base import FittedState


class Standardiser(FittedState):
    """Puts the parts of a score on one scale: each minus its mean, over its deviation, on the calibration normals.

    s = Σ_k (p_k - μ_k) / σ_k. With a single part s = p: a raw score stays raw.

    Args:
        parts: K.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(parts))
        self.register_buffer("deviation", torch.ones(parts))

    def fit(self, parts: Tensor) -> None:
        """Learn μ and σ from the parts (N, K) of the calibration normals."""
        if parts.shape[1] == 1:
            return
        self.mean.copy_(parts.mean(0))
        # one image, or equal images, have no deviation: that may not blow the score up
        deviation = parts.std(0, correction=0)
        self.deviation.copy_(torch.where(deviation > 0, deviation, torch.ones_like(deviation)))

    def forward(self, parts: Tensor) -> Tensor:
        """(B, K) -> (B,)."""
        return ((parts - self.mean) / self.deviation).sum(1)


class Calibration(FittedState):
    """Scores of the calibration normals, the peaks of their maps, and the thresholds that came of them."""

    scores: Tensor
    map_peaks: Tensor
    map_middle: Tensor
    threshold: Tensor
    pixel_threshold: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scores", torch.zeros(0))
        self.register_buffer("map_peaks", torch.zeros(0))
        self.register_buffer("map_middle", torch.zeros(()))  # median of a typical normal map
        # float64, so that the stored threshold is the reported one to the last digit
        self.register_buffer("threshold", torch.full((), torch.nan, dtype=torch.float64))
        self.register_buffer("pixel_threshold", torch.full((), torch.nan))
