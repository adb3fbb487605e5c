"""ADGAN over the whitened feature maps of a frozen pretrained encoder, with a density of normal features.

The two stages are those of `adgan`, with whitened features φ in place of pixels. Besides the residual of the generator,
the score asks how dense normal features are at each cell, and how ordinary the image is as a whole:

    density         z(c) = √(2/F (log c - log Σ_k π_k N(φ_c; μ_k, Σ_k))) mixture over all cells of normal images, c its maximum
    residual        r(c) = ||φ_c - G(φ ⊙ A)_c||² / F                    stage 2, under stage 1's map A
    image           d(x) = Mahalanobis distance of mean and sd of φ     one Gaussian over normal images
    map             1 - A(c)                                            stage 1

Local parts are means over the highest `top_fraction` of the cells: a defect is small, and the mean over the map drowns it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from anomap.objectives.adgan import ADGAN, Guide
from anomap.objectives.attention_network import AttentionNetwork
from anomap.objectives.base import Factory, Scored, resized
from anomap.objectives.density import GlobalGaussian, Mixture, fit_to_cells
from anomap.objectives.losses import AdversarialKind, top_mean


class FeatureADGAN(ADGAN):
    """Attention-guided GAN and density over whitened features.

    Args:
        stage1: a trained attention network over features; frozen here.
        generator: makes (features, attention map) -> `Generated`, see `ADGAN`.
        discriminator: makes features -> features, logits.
        weights: of the generator's losses, see `ADGAN`.
        adversarial: kind of the adversarial losses.
        guide: where the map comes from, see `ADGAN`.
        components: of the mixture.
        samples: cells of normal images that the mixture is fitted to.
        top_fraction: share of the cells whose mean is a local part of the score.
        parts: which parts make up the score.
    """

    part_names = ("density", "image", "map", "residual")

    def __init__(
        self,
        stage1: AttentionNetwork,
        generator: Factory,
        discriminator: Factory,
        weights: Mapping[str, float],
        adversarial: AdversarialKind = "hinge",
        guide: Guide = "learned",
        components: int = 16,
        samples: int = 60_000,
        top_fraction: float = 0.01,
        parts: Sequence[str] = ("density", "image", "map", "residual"),
    ) -> None:
        super().__init__(stage1, generator, discriminator, weights, adversarial, guide, parts=parts)
        self.mixture = Mixture(components)
        self.whole = GlobalGaussian()
        self.samples = samples
        self.top_fraction = top_fraction

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Fit both densities to clean training images; the representation came fitted with stage 1."""
        vectors = []

        def local_maps() -> Iterator[Tensor]:
            for x in self.representation.clean_batches(batches):
                vectors.append(self.describe_features(x))
                yield self.representation.local(x)

        fit_to_cells(self.mixture, local_maps(), self.samples)
        self.whole.fit(torch.cat(vectors))

    def describe_features(self, x: Tensor) -> Tensor:
        """The image as a whole, (B, D): means of all channels over the cells, deviations of the local ones."""
        return torch.cat([x.mean((2, 3)), self.representation.local(x).std((2, 3), correction=0)], dim=1)

    def score(self, images: Tensor) -> Scored:
        """Parts as configured; the anomaly map is that of the density, at the size of the image."""
        x = self.representation(images)
        size = images.shape[-2:]
        map_logits = self.stage1.map_logits(x)
        attention = self.attention(map_logits)
        local = self.representation.local(x)
        rarity = self.mixture(local)
        parts = {
            "density": top_mean(rarity, self.top_fraction),
            "image": self.whole(self.describe_features(x)),
        }
        if "map" in self.part_names:
            parts["map"] = self.stage1.map_score(map_logits)
        if "residual" in self.part_names:
            residual = (local - self.generator(x, attention).image).square().mean(1, keepdim=True)
            parts["residual"] = top_mean(residual, self.top_fraction)
        return Scored(
            parts=parts,
            anomaly_map=resized(rarity, size),
            attention_map=resized(attention, size),
        )
