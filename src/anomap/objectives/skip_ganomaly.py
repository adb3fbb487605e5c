"""Skip-GANomaly (Akcay et al. 2019, arXiv 1901.08954): a U-Net must reconstruct, and a discriminator's features must agree.

    L_G = w_a · adversarial + w_r ||x - x̂||₁ + w_f ||f(x) - f(x̂)||²          (eq. 1-4)
    score = 0.9 mean (x - x̂)² + 0.1 mean (f - f̂)²                              (eq. 5-6)

Differences from the authors' code: the discriminator does not minimise the feature distance, which there has the same sign
as in the generator; images are scaled to tanh's range; nothing is scaled by the test set. The CBAM and self-attention
variants are settings of the generator.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from anomap.objectives.base import AdversarialObjective, Batch, Losses, MethodOutput, Step, to_signed, weighted
from anomap.objectives.losses import discriminator_loss, generator_adversarial_loss, per_image


class SkipGANomaly(AdversarialObjective):
    """Reconstruction by a U-Net, adversarially; `weights` are `adversarial`, `reconstruction` and `feature`."""

    part_names = ("reconstruction",)
    uses_augmentation = False

    def generate(self, batch: Batch) -> Step:
        x = to_signed(batch["image"])
        return Step({"x": x, "x̂": self.generator(x).image})

    def discriminator_losses(self, step: Step) -> Losses:
        count = len(step["x"])
        logits = self.discriminator(torch.cat([step["x"], step["x̂"]]))[1]
        return {"loss": discriminator_loss(logits[:count], logits[count:], self.adversarial)}

    def generator_losses(self, step: Step) -> Losses:
        """The terms of L_G; x̂ may hold several reconstructions of x, one after the other."""
        count, times = len(step["x"]), len(step["x̂"]) // len(step["x"])
        terms = {"reconstruction": F.l1_loss(step["x̂"], step["x"].repeat(times, 1, 1, 1))}
        if self.weights["adversarial"] or self.weights["feature"]:
            features, logits = self.discriminator(torch.cat([step["x"], step["x̂"]]))
            real = features[:count].detach()  # the target: no gradient flows there
            terms["adversarial"] = generator_adversarial_loss(logits[count:], self.adversarial)
            terms["feature"] = F.mse_loss(features[count:], real.repeat(times, 1, 1, 1))
        return weighted(terms, self.weights)

    def residual_score(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        """The score (B,) of images or features (B, C, H, W) and their reconstructions."""
        features, again = self.discriminator(x)[0], self.discriminator(reconstruction)[0]
        image, feature = per_image((x - reconstruction) ** 2), per_image((features - again) ** 2)
        return 0.9 * image + 0.1 * feature

    def score(self, images: Tensor) -> MethodOutput:
        """Score as above, map |x - x̂|."""
        x = to_signed(images)
        reconstruction = self.generator(x).image
        return MethodOutput.of_images({"reconstruction": self.residual_score(x, reconstruction)}, x, reconstruction)
