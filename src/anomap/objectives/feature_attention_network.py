"""Stage 1 over the whitened features of a frozen encoder: what the density of normal features sees, and what a network learns.

The equations are those of `attention_network`. The map head also sees how rare each cell is under a mixture of normal features,
and finer maps of the encoder, to draw outlines that the features are too coarse for. A defect is small, so density and map are
means over the highest `top_fraction` of the cells:

    density   r(c)                 rarity of a cell, standardised on normal cells
    map       l(c) = -logit A(c)   learned, on the features' own grid; and l at twice their resolution
    anomaly map   l + w r          fine, at the size of the image: r is generous and sees what no augmentation drew
    peak      max (l + w r)        a speck, of which a mean over cells keeps little
    image     d(x)                 mean and sd of the features, against those of normal images: one Gaussian, or the nearest
    score     of these parts those that are chosen, standardised and fused
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from anomap.objectives.attention_network import AttentionNetwork
from anomap.objectives.base import MethodOutput, Parts, compressed, resized
from anomap.objectives.density import GlobalGaussian
from anomap.objectives.losses import top_mean
from anomap.objectives.representation import DenseFeatures


class FeatureAttentionNetwork(AttentionNetwork):
    """Attention network over whitened features and their density, which counts `density_weight` w in the anomaly map."""

    part_names = ("density", "map", "peak", "image")
    minimum_images: Mapping[str, int] = {"image": 10}  # of fewer, any new image lies far from all
    representation: DenseFeatures  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        *,
        whole: GlobalGaussian | None = None,  # of normal images as a whole; None: one Gaussian
        density_weight: float = 0.5,
        parts: Parts = ("density", "map"),
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.density_weight = density_weight
        self.choose_parts(parts)
        self.whole = whole or GlobalGaussian()

    @torch.no_grad()
    def learn_statistics(self, batches: Iterable[Tensor]) -> None:
        super().learn_statistics(batches)
        self.whole.fit(torch.cat([self.describe(x) for x in self.representation.clean_batches(batches)]))

    def part_shares(self) -> Mapping[str, float]:
        return {"image": self.whole.support}

    def describe(self, x: Tensor) -> Tensor:
        """The image as a whole, (B, D): means of local and context channels over the cells, deviations of the local ones."""
        local = self.representation.local(x)
        seen = x[:, : self.representation.local_channels + self.representation.context_channels]
        return torch.cat([seen.mean((2, 3)), local.std((2, 3), correction=0)], dim=1)

    def score(self, images: Tensor) -> MethodOutput:
        """Parts and maps; the U-Net is not needed."""
        return self.score_features(self.representation(images), images.shape[-2:])

    def score_features(self, x: Tensor, size: Sequence[int]) -> MethodOutput:
        """`score` of a representation (B, C, h, w); maps are given at `size`."""
        fine, coarse = self.generator.maps(x)
        rarity = self.representation.rarity(x)
        anomaly_map = resized(-fine, size) + self.density_weight * resized(compressed(rarity), size)
        return MethodOutput(
            parts={
                "density": top_mean(rarity, self.top_fraction),
                "map": top_mean(-coarse, self.top_fraction),
                "peak": anomaly_map.amax((1, 2, 3)),
                "image": self.whole(self.describe(x)),
            },
            anomaly_map=anomaly_map,
            attention_map=resized(torch.sigmoid(fine), size),
        )
