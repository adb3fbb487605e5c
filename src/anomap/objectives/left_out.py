"""How unlike the others each training image is, scored as if it had been left out.

The images are dealt into `FOLDS`. A fold's images are scored by a whitening and a mixture of Gaussians that were fitted to cells
of the other folds: the mean of the highest cells, as a density scores new images. A defect cannot vouch for itself.
"""

from collections.abc import Callable, Iterable
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomap.objectives.base import Objective
from anomap.objectives.density import Mixture, sample_cells
from anomap.objectives.expectation_maximisation import log_constants
from anomap.objectives.losses import top_mean
from anomap.objectives.representation import WhitenedFeatures
from anomap.objectives.whitening import Whitening

FOLDS = 5
CELLS, COMPONENTS, ITERATIONS = 15_000, 8, 5  # of each fold's mixture: a few seconds for all, and enough to rank by
# of a Gaussian of that mixture: what few cells are like is no standard, or defects of one kind would be
LEAST_WEIGHT = 0.02
TOP = 0.01  # share of the cells whose mean is an image's score
PATCH, SIDE = 4, 128  # pixels of a patch's side, where a method has no features; of an image's that is cut into them
OUTLYING = 7.0  # robust deviations above the median: of clean images, drawn and photographed, about 1 in 200 at most
MINIMUM = 20  # images: of fewer, the spread is unknown
_LEAST_SPREAD = 0.01  # of the scores' logarithm: copies are no standard to judge others by


def features_of(objective: Objective) -> WhitenedFeatures | None:
    """What a method sees, if it sees features."""
    found = getattr(objective, "representation", None)
    return found if isinstance(found, WhitenedFeatures) else None


def local_maps(objective: Objective, batches: Iterable[Tensor]) -> Iterable[Tensor]:
    """(B, F, h, w) of images (B, C, H, W) in [0, 1]: a method's local features, or patches of pixels."""
    return map(patches if (features := features_of(objective)) is None else features.seen_local, batches)


def patches(images: Tensor) -> Tensor:
    """Overlapping patches of pixels, of images of at most SIDE pixels a side: (B, C, H, W) -> (B, C PATCH², h, w)."""
    step, (height, width) = PATCH // 2, images.shape[2:]
    images = F.adaptive_avg_pool2d(images, (min(height, SIDE), min(width, SIDE)))
    height, width = ((side - PATCH) // step + 1 for side in images.shape[2:])
    return F.unfold(images, PATCH, stride=step).unflatten(2, (height, width))


class _Fold(nn.Module):
    """What the images outside a fold look like."""

    def __init__(self, rows: Tensor, images: int) -> None:
        super().__init__()
        self.whitening = Whitening(rows.shape[1])
        self.mixture = Mixture(COMPONENTS, iterations=ITERATIONS)
        self.to(rows.device)
        self.whitening.add(rows.T[None, :, :, None])
        self.whitening.finish()
        self.mixture.fit(self.whitening(rows.T[None, :, :, None])[0, :, :, 0].T, images)
        self._forget_rare()

    def _forget_rare(self) -> None:
        mixture = self.mixture
        kept = (mixture.log_weights - log_constants(mixture.factors)).exp() >= LEAST_WEIGHT
        mixture.log_weights, mixture.means = mixture.log_weights[kept], mixture.means[kept]
        mixture.factors = mixture.factors[kept]

    def forward(self, maps: Tensor) -> Tensor:
        """(B, F, h, w) -> scores (B,), higher = less like the others."""
        return top_mean(self.mixture(self.whitening(maps)), TOP)


@torch.no_grad()
def left_out_scores(maps: Callable[[], Iterable[Tensor]], held_out: Iterable[Tensor] = ()) -> Tensor:
    """Scores (N + M,) of N >= 2 training images and M that were held out of training, by their maps (B, F, h, w).

    Those of training are gone through twice in the same order. The run's random state stays as it is.
    """
    count, device = 0, torch.device("cpu")

    def numbered() -> Iterable[Tensor]:
        nonlocal count, device
        for x in maps():
            device = x.device
            index = torch.arange(count, count + len(x), device=device, dtype=x.dtype)
            count += len(x)
            yield torch.cat([x, index[:, None, None, None].expand(-1, 1, *x.shape[2:])], dim=1)

    cells = round(CELLS * FOLDS / (FOLDS - 1))
    rows = sample_cells(numbered(), cells, torch.Generator().manual_seed(0))
    number = min(FOLDS, count)
    rows, fold_of_cell = rows[:, :-1].to(device), (rows[:, -1].long() % number).to(device)
    folds = [_Fold(rows[fold_of_cell != fold], count) for fold in range(number)]
    parts, start = [], 0
    for x in chain(maps(), held_out):
        part = torch.empty(len(x))
        for fold, model in enumerate(folds):  # one held out is as new to any of them
            own = torch.tensor(range((fold - start) % len(folds), len(x), len(folds)))
            if len(own):
                part[own] = model(x[own.to(x.device)]).cpu().float()
        parts.append(part)
        start += len(x)
    return torch.cat(parts)


def robust_z(scores: Tensor) -> Tensor:
    """Deviations of log scores (N,) from their median, in robust standard deviations of those above it, the longer tail."""
    offset = scores.clamp(min=1e-12).log()
    offset = offset - offset.median()
    above = offset[offset > 0]
    spread = 1.4826 * float(above.median()) if len(above) else 0.0  # that of a Gaussian's median deviation
    return offset / max(spread, _LEAST_SPREAD)
