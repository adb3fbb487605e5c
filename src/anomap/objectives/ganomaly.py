"""GANomaly (Akcay et al. 2018, arXiv 1805.06725): an image is abnormal if its latent does not survive reconstruction."""

from torch import Tensor
from torch.nn import functional as F

from anomap.objectives.base import AdversarialObjective, Batch, Losses, MethodOutput, Step, to_signed, weighted
from anomap.objectives.losses import discriminator_loss, per_image


class GANomaly(AdversarialObjective):
    """L_G = w_f ||f(x) - f(x̂)||² + w_r ||x - x̂||₁ + w_z ||z - ẑ||² (eq. 1-4 of the paper, squares as in the authors' code).

    The weights are `feature`, `reconstruction` and `latent`; the generator is an `EncoderDecoderEncoder`. Unlike in the authors'
    code, the discriminator is not re-initialised when its loss vanishes, and images are scaled to tanh's range for every data set.
    """

    part_names = ("latent",)
    uses_augmentation = False

    def generate(self, batch: Batch) -> Step:
        x = to_signed(batch["image"])
        reconstruction, z, z_again = self.generator(x)
        return Step({"x": x, "x̂": reconstruction, "z": z, "ẑ": z_again})

    def discriminator_losses(self, step: Step) -> Losses:
        real, fake = self.discriminator(step["x"])[1], self.discriminator(step["x̂"])[1]
        return {"loss": discriminator_loss(real, fake, self.adversarial)}

    def generator_losses(self, step: Step) -> Losses:
        """Feature matching (eq. 1), contextual (eq. 2) and latent loss (eq. 3)."""
        real = self.discriminator(step["x"])[0].detach()  # the target: no gradient flows there
        fake = self.discriminator(step["x̂"])[0]
        terms = {
            "feature": F.mse_loss(fake, real),
            "reconstruction": F.l1_loss(step["x̂"], step["x"]),
            "latent": F.mse_loss(step["ẑ"], step["z"]),
        }
        return weighted(terms, self.weights)

    def score(self, images: Tensor) -> MethodOutput:
        """Score mean((z - ẑ)²), map |x - x̂|."""
        x = to_signed(images)
        reconstruction, z, z_again = self.generator(x)
        return MethodOutput.of_images({"latent": per_image((z - z_again) ** 2)}, x, reconstruction)
