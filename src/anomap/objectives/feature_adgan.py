"""ADGAN over the whitened feature maps of a frozen pretrained encoder.

Stage 1 is `feature_attention_network`. Stage 2 sees the features with what stage 1 marks cut out, and fills it in from its
normal surroundings; what remains between the two is a conditional density. With φ the features and A stage 1's map:

    restored   φ̂ = G(φ ⊙ A, A)                                        trained towards the CLEAN features
    residual   r(c) = ||φ_c - φ̂_c||² / F
"""

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from anomap.objectives.adgan import ADGAN, Guide
from anomap.objectives.base import Factory, MethodOutput
from anomap.objectives.feature_attention_network import FeatureAttentionNetwork
from anomap.objectives.losses import AdversarialKind, top_mean


class FeatureADGAN(ADGAN):
    """Attention-guided GAN over whitened features and their density.

    Args:
        stage1: a trained attention network over features; frozen here.
        generator: makes (features, attention map) -> `Generated`, see `ADGAN`.
        discriminator: makes features -> features, logits.
        weights: of the generator's losses, see `ADGAN`.
        adversarial: kind of the adversarial losses.
        guide: where the map comes from, see `ADGAN`.
        top_fraction: share of the cells whose mean is a local part of the score.
        parts: which parts make up the score.
    """

    part_names = ("density", "map", "residual", "image")
    stage1: FeatureAttentionNetwork  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        stage1: FeatureAttentionNetwork,
        generator: Factory,
        discriminator: Factory,
        weights: Mapping[str, float],
        adversarial: AdversarialKind = "hinge",
        guide: Guide = "learned",
        top_fraction: float = 0.01,
        parts: Sequence[str] | Mapping[str, float] = ("density", "map", "residual"),
    ) -> None:
        super().__init__(stage1, generator, discriminator, weights, adversarial, guide, parts=parts)
        del self.whole  # stage 1 has one of its own
        self.top_fraction = top_fraction

    def learn_statistics(self, batches: Iterable[Tensor]) -> None:
        """Nothing is left to learn in closed form: densities and representation came with stage 1."""
        del batches

    def score(self, images: Tensor) -> MethodOutput:
        """Stage 1's parts and maps, and of stage 2 what the configured parts need."""
        x = self.representation(images)
        first = self.stage1.score_features(x, images.shape[-2:])
        parts = dict(first.parts)
        if "residual" in self.part_names:
            residual = (self.representation.local(x) - self.restored(x)).square().mean(1, keepdim=True)
            parts["residual"] = top_mean(residual, self.top_fraction)
        return MethodOutput(parts, first.anomaly_map, first.attention_map)
