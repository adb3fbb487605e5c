"""What a detector learns from normal images once its method is trained: the scale of its score's parts, thresholds, places."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from anomap.detection import places
from anomap.detection.image_statistics import STATISTICS
from anomap.objectives.base import FittedState, compressed


def fuse(parts: Tensor, weights: Tensor) -> Tensor:
    """Anomaly scores (B,) = Σ_k w_k c(s_k), c linear up to 3 standard deviations and logarithmic above.

    A single part (B, 1) is the score itself. A plain sum lets one part with a heavy tail drown the others
    (docs/results.md). A part of weight 0 is left out, even where it is not finite.
    """
    fused = parts if parts.shape[1] == 1 else compressed(parts)
    return torch.where(weights > 0, fused * weights, 0.0).sum(1)


class Standardiser(nn.Module):
    """Puts the K parts of a score on one scale and fuses them: s = fuse((p - μ) / σ, w).

    μ and σ are those of the images given to `fit`. A score of a single part stays raw: μ = 0, σ = 1.
    """

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(parts))
        self.deviation = nn.Buffer(torch.ones(parts))
        self.weights = nn.Buffer(torch.ones(parts))

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


class OnCpu(FittedState):
    """It stays on the CPU, in its own types."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "OnCpu":
        """Follow the model to no device and no type."""
        del fn, recurse
        return self


class Calibration(OnCpu):
    """What is kept of the N calibration normals: scoring never reads it, and MPS has no float64."""

    scores: Tensor
    scaling: Tensor
    map_peaks: Tensor
    statistics: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Buffer(torch.zeros(0))  # (N,)
        self.scaling = nn.Buffer(torch.zeros(0, dtype=torch.bool))  # (N,), True = sets the parts' scale, not thresholds
        self.map_peaks = nn.Buffer(torch.zeros(0))  # (N,), the highest value of each map
        self.statistics = nn.Buffer(torch.zeros(0, len(STATISTICS)))  # (N, 5), see `drift`; NaN where not known
        self.map_middle = nn.Buffer(torch.zeros(()))  # the median of a typical normal map
        self.threshold = nn.Buffer(torch.full((), torch.nan, dtype=torch.float64))  # as reported, to the last digit
        self.pixel_threshold = nn.Buffer(torch.full((), torch.nan))  # of the map

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        state_dict.setdefault(f"{prefix}statistics", torch.zeros(0, len(STATISTICS)))  # of checkpoints older than they
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class LearnedPlaces(OnCpu):
    """What normal photographs show at each place, as `anomap.detection.places.Places`; empty where they are not compared so."""

    level: Tensor

    def __init__(self) -> None:
        super().__init__()
        self._keep(places.Places(np.zeros(0, np.float32), np.zeros(0, np.float32), *places.nothing()))

    def _keep(self, found: places.Places) -> None:
        for name, grid in found._asdict().items():
            setattr(self, name, nn.Buffer(torch.tensor(grid)))  # memory of its own

    @property
    def known(self) -> bool:
        """Whether they were learned."""
        return self.level.numel() > 0

    @property
    def kept(self) -> places.Places:
        """As NumPy has them."""
        return places.Places(*(getattr(self, name).numpy() for name in places.Places._fields))

    def learn(self, photographs: Sequence[npt.NDArray[np.uint8]], maps: Iterable[Tensor]) -> None:
        """From normal photographs (C, H, W) of one size, and their anomaly maps (1, 1, H, W)."""
        self._keep(places.learned(photographs, (one[0, 0].numpy() for one in maps)))

    def compare(self, photographs: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        """What is strange in photographs (B, C, H, W), in bytes or in [0, 1]: maps (B, 1, H, W), changed in place, scores (B,)."""
        stored = photographs.mul(255).round().byte() if photographs.is_floating_point() else photographs
        maps, kept = maps.float().cpu(), self.kept
        pairs = zip(stored.cpu().numpy(), maps.numpy(), strict=True)
        return maps, torch.tensor([places.compare(one[0], photograph, kept) for photograph, one in pairs])
