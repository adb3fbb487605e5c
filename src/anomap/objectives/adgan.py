"""Stage 2: ADGAN, a Skip-GANomaly whose feature maps are multiplied by the attention map of a frozen stage 1.

Implements the design in the abstract of arXiv 2103.16851 ("applies the map to an image feature map"); losses and
weights are ours, after Skip-GANomaly (Akcay et al. 2019, arXiv 1901.08954). With A = stage 1's map, x normal and x_h its
hard-augmented copy:

    x̂ = G(x ⊙ A(x)),  x̂_h = G(x_h ⊙ A(x_h))            (⊙: on every feature map that reaches the decoder)
    L_G = w_a · adversarial + w_r (||x̂ - x||₁ + ||x̂_h - x||₁) / 2 + w_f ||f(x̂) - f(x)||²
    L_D = adversarial, x real, x̂ and x̂_h fake

What the map marks abnormal is cut out of the features, so the generator must fill it in from normal surroundings. The score may
add the distance of the whole image to the nearest normal one, in the space that a Gaussian over stage 1's features whitens
(CutPaste, arXiv 2104.04015, section 3.1, scores by that Gaussian itself):

    image    d(x) = min_i |W (v(x) - v(x_i))| / √D,  v: means and deviations of stage 1's encoder feature maps
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from anomap.networks.generators import Generated
from anomap.objectives.attention_network import AttentionNetwork
from anomap.objectives.base import Batch, Factory, MethodOutput, Parts, Step, per_pixel, resized
from anomap.objectives.density import NearestNormal
from anomap.objectives.losses import AdversarialKind
from anomap.objectives.representation import Representation
from anomap.objectives.skip_ganomaly import SkipGANomaly

Guide = Literal["learned", "ones", "random"]  # for an ablation, ones: no guidance; random: a map that says nothing
RANDOM_LEVEL = 0.62  # of noise, above which a random map is closed: a few blobs, a fifth of the image


class GuidedGAN(SkipGANomaly):
    """A stage 2, whatever its score: the GAN under the map of a frozen stage 1. ValueError for an unknown guide or part."""

    uses_augmentation = True
    minimum_images: Mapping[str, int] = {"image": 10}  # of fewer, any new image lies far from all

    def __init__(
        self,
        stage1: AttentionNetwork,  # trained; frozen here
        generator: Factory,  # (x, attention map) -> `Generated`, given the channels and stride of what stage 1 sees
        discriminator: Factory,  # x -> features, logits, given the same
        weights: Mapping[str, float],
        adversarial: AdversarialKind = "bce",
        guide: Guide = "learned",
        parts: Parts | None = None,  # None: all
    ) -> None:
        sees = {"channels": stage1.representation.local_channels, "input_stride": stage1.representation.grid_stride}
        super().__init__(generator(**sees), discriminator(**sees), weights, adversarial)
        if guide not in get_args(Guide):
            raise ValueError(f"guide must be one of {', '.join(get_args(Guide))}, not {guide!r}")
        self.stage1 = stage1.requires_grad_(False).eval()
        self.representation: Representation = stage1.representation  # both stages see the same
        self.guide: Guide = guide
        self.choose_parts(parts)

    def train(self, mode: bool = True) -> "GuidedGAN":
        """Training mode for stage 2 only: the frozen stage 1 keeps its running statistics."""
        super().train(mode)
        self.stage1.eval()
        return self

    def attention(self, guide: Tensor) -> Tensor:
        """The guiding map (B, 1, h, w): stage 1's, or what stands in for it in an ablation."""
        if self.guide != "random":
            return guide if self.guide == "learned" else torch.ones_like(guide)
        # the same blobs for every image and call: a map that closes as much as a learned one, and knows nothing
        noise = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
        closed = resized(noise, guide.shape[-2:]) > RANDOM_LEVEL
        return (~closed).to(guide).expand_as(guide)

    def generate(self, batch: Batch) -> Step:
        """x̂ and x̂_h in one pass."""
        clean = self.representation.clean(batch["image"], batch["index"])
        both = torch.cat([clean, self.representation(batch["augmented"])])
        return Step({"x": self.representation.local(clean), "x̂": self.restored(both)})

    def restored(self, x: Tensor) -> Tensor:
        """The local channels of a representation (B, C, h, w), with what the guiding map closes filled in."""
        with torch.no_grad():
            attention = self.attention(self.stage1.guide(x))
        return self.generator(x, attention).image


class ADGAN(GuidedGAN):
    """Attention-guided anomaly-detection GAN over pixels; arguments as those of `GuidedGAN`."""

    part_names = ("reconstruction", "map", "image")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.whole = NearestNormal()

    @torch.no_grad()
    def learn_statistics(self, batches: Iterable[Tensor]) -> None:
        """Remember the training images as wholes; stage 1, with the representation's statistics, is trained by then."""
        clean = self.representation.clean_batches(batches)
        self.whole.fit(torch.cat([self.describe(self.stage1.generator(x)) for x in clean]))

    def describe(self, first: Generated) -> Tensor:
        """The image as a whole, (B, D): mean and deviation of every feature map of stage 1's encoder."""
        moments = [(f.mean((2, 3)), f.std((2, 3), correction=0)) for f in map(Tensor.float, first.features)]
        return torch.cat([moment for pair in moments for moment in pair], dim=1)

    def score(self, images: Tensor) -> MethodOutput:
        """Parts, as configured: stage 2's residual score, stage 1's map, the image as a whole. Map: 1 - A + |x - x̂|."""
        x = self.representation(images)
        size = images.shape[-2:]
        generated = self.stage1.generator(x)
        first = self.stage1.score_of(x, generated, size)
        attention = self.attention(torch.sigmoid(generated.map_logits))
        reconstruction = self.generator(x, attention).image
        parts = {"map": first.parts["map"]}
        if "reconstruction" in self.part_names:
            parts["reconstruction"] = self.residual_score(x, reconstruction)
        if "image" in self.part_names:
            parts["image"] = self.whole(self.describe(generated))
        return MethodOutput(
            parts=parts,
            anomaly_map=first.anomaly_map + resized(per_pixel(x - reconstruction), size),
            attention_map=resized(attention, size),
            reconstruction=self.representation.image(reconstruction),
        )
