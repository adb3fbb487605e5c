"""ADGAN over the whitened feature maps of a frozen pretrained encoder.

Stage 1 is `feature_attention_network`. Stage 2 sees the features with what stage 1 marks cut out, and fills it in from its
normal surroundings; what remains between the two is a conditional density. With φ the features and A stage 1's map:

    restored   φ̂ = G(φ ⊙ A, A)                                        trained towards the CLEAN features
    residual   r(c) = ||φ_c - φ̂_c||² / F
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from anomap.objectives.adgan import GuidedGAN
from anomap.objectives.base import MethodOutput, Parts
from anomap.objectives.feature_attention_network import FeatureAttentionNetwork
from anomap.objectives.losses import AdversarialKind, top_mean


class FeatureADGAN(GuidedGAN):
    """Attention-guided GAN over whitened features and their density. All its statistics came with stage 1."""

    part_names = ("density", "map", "peak", "residual", "image")
    stage1: FeatureAttentionNetwork  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        *,
        adversarial: AdversarialKind = "hinge",
        parts: Parts = ("density", "map", "residual"),
        top_fraction: float = 0.01,  # of the cells, whose mean is the residual's part of the score
        **options: Any,  # of `GuidedGAN`
    ) -> None:
        super().__init__(adversarial=adversarial, parts=parts, **options)
        self.top_fraction = top_fraction

    def part_shares(self) -> Mapping[str, float]:
        return self.stage1.part_shares()

    def score(self, images: Tensor) -> MethodOutput:
        """Stage 1's parts and maps, and of stage 2 what the configured parts need."""
        x = self.representation(images)
        first = self.stage1.score_features(x, images.shape[-2:])
        parts = dict(first.parts)
        if "residual" in self.part_names:
            residual = (self.representation.local(x) - self.restored(x)).square().mean(1, keepdim=True)
            parts["residual"] = top_mean(residual, self.top_fraction)
        return MethodOutput(parts, first.anomaly_map, first.attention_map)
