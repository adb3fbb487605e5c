"""Controls over the features that `feature_adgan` sees: what their density or a memory of them reaches, no network trained."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from anomap.config import check_whole
from anomap.objectives.base import FittedState, MethodOutput, Objective, resized
from anomap.objectives.density import Mixture, fit_to_cells, run_generator, sample_cells
from anomap.objectives.losses import top_mean
from anomap.objectives.representation import WhitenedFeatures

MEMORY_SLICE = 512  # remembered cells that all cells are compared with at once


class FeatureDensity(Objective):
    """How rare whitened features are: under one Gaussian (Mahalanobis distance) or under a mixture of them."""

    part_names = ("density",)

    def __init__(
        self,
        representation: WhitenedFeatures,
        components: int = 12,  # of the mixture, at most; 1 is the Gaussian
        samples: int = 60_000,  # cells of normal images that it is fitted to
        top_fraction: float = 0.01,  # of the cells, whose mean is the score
    ) -> None:
        super().__init__()
        self.representation = representation
        self.mixture = Mixture(components)
        check_whole("samples", samples, 1)
        self.samples, self.top_fraction = samples, top_fraction

    @torch.no_grad()
    def learn_statistics(self, batches: Iterable[Tensor]) -> None:
        self.representation.learn_statistics(batches)
        clean = self.representation.clean_batches(batches)
        fit_to_cells(self.mixture, map(self.representation.local, clean), self.samples)

    def score(self, images: Tensor) -> MethodOutput:
        """Score: mean of the map's top cells. Map: how rare each cell is."""
        rarity = self.mixture(self.representation.local(self.representation(images)))
        return MethodOutput({"density": top_mean(rarity, self.top_fraction)}, resized(rarity, images.shape[-2:]))


class PatchMemory(FittedState, Objective):
    """Distance to the nearest of many remembered features, not whitened: PatchCore (2106.08265) with a random memory.

    PatchCore thins its memory greedily and reweights the highest distance; here, as in `feature_adgan`, the score is the mean of
    the highest. Of the representation only the raw local features are used.
    """

    part_names = ("distance",)

    def __init__(self, representation: WhitenedFeatures, samples: int = 20_000, top_fraction: float = 0.01) -> None:
        super().__init__()
        self.representation = representation
        check_whole("samples", samples, 1)
        self.samples, self.top_fraction = samples, top_fraction
        self.bank = nn.Buffer(torch.zeros(0))  # (M, F)

    @torch.no_grad()
    def learn_statistics(self, batches: Iterable[Tensor]) -> None:
        self.representation.encoder.load_pretrained()
        cells = sample_cells((self.representation.raw(x)[0] for x in batches), self.samples, run_generator())
        self.bank = cells.to(self.bank)

    def score(self, images: Tensor) -> MethodOutput:
        """Score: mean of the map's top cells. Map: Euclidean distance to the nearest remembered cell."""
        features = self.representation.raw(images)[0]
        rows = features.movedim(1, -1).flatten(0, -2)  # (N, F)
        # ||x - b||² without the ||x||² that all candidates share. N x M distances are too many at once; slices are of the
        # memory, since an exported graph leaves the number of rows open
        slices = [((part**2).sum(1) - 2 * rows @ part.T).amin(1) for part in self.bank.split(MEMORY_SLICE)]
        distance = (torch.stack(slices).amin(0) + (rows**2).sum(1)).clamp(min=0).sqrt()
        distance = distance.view(features.shape[0], 1, *features.shape[2:])
        return MethodOutput({"distance": top_mean(distance, self.top_fraction)}, resized(distance, images.shape[-2:]))
