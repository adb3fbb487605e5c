"""Stage 1: the attention network, which learns a map of the normal region from hard augmentation.

Implements the design in the abstract of "Attention Map-guided Two-stage Anomaly Detection using Hard Augmentation"
(arXiv 2103.16851); losses and weights are ours. For a normal image x and its hard-augmented copy x_h with mask m:

    attention       L_att = AttentionLoss(A(x), 1) + AttentionLoss(A(x_h), 1 - m)
    reconstruction  L_rec = ||G(x) - x||₁ + ||G(x_h) - x||₁        (both towards the CLEAN image)
    discriminator   real: (x, 1), (x_h, 1 - m); fake: (x̂, Â), (x̂_h, Â_h), and the mismatched pair (x_h, 1)

The mismatched pair is the adversarial anomaly loss: the map alone never separates real from fake. Images are pixels or, with
another `representation`, whitened feature maps.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from anomap.networks.generators import Generated, UNet
from anomap.networks.layout import beside
from anomap.objectives import losses
from anomap.objectives.base import AdversarialObjective, Batch, Factory, Losses, MethodOutput, Step, resized, weighted
from anomap.objectives.representation import Representation


class AttentionNetwork(AdversarialObjective):
    """Two-headed U-Net: reconstruction and attention map; `weights` are `attention`, `reconstruction` and `adversarial`."""

    part_names = ("map", "reconstruction")
    generator: UNet  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(
        self,
        generator: Factory,  # makes a `UNet` with a map head, given the channels and stride of the representation
        discriminator: Factory,  # representation ⊕ map (C + 1 channels) -> features, logits, given the same
        representation: Representation,
        weights: Mapping[str, float],
        adversarial: losses.AdversarialKind = "hinge",
        map_loss: losses.MapLossKind = "bce",  # pixel term of the attention loss
        mismatched_pair: bool = True,  # the adversarial anomaly loss; off only for an ablation
        top_fraction: float = 0.02,  # of the map's pixels, whose mean is the map's part of the score
    ) -> None:
        sees = {"channels": representation.local_channels, "input_stride": representation.grid_stride}
        unet = generator(
            **sees,
            context=representation.context_channels,
            detail=representation.detail_channels,
            density=representation.density_channels,
        )
        super().__init__(unet, discriminator(**sees, map_channels=1), weights, adversarial)
        self.representation: Representation = representation
        self.map_loss: losses.MapLossKind = map_loss
        self.mismatched_pair = mismatched_pair
        self.top_fraction = top_fraction

    def learn_statistics(self, batches: Iterable[Tensor]) -> None:
        """Those of the representation."""
        self.representation.learn_statistics(batches)

    def generate(self, batch: Batch) -> Step:
        """One pass over clean and augmented images together, so that BatchNorm never sees one kind alone."""
        clean = self.representation.clean(batch["image"], batch["index"])
        augmented = self.representation(batch["augmented"])
        generated = self.generator(torch.cat([clean, augmented]))
        mask = self.representation.mask(batch["mask"])
        return Step(
            {
                "x": self.representation.local(clean),
                "x_h": self.representation.local(augmented),
                "mask": torch.cat([torch.zeros_like(batch["mask"]), batch["mask"]]),
                "target": torch.cat([torch.ones_like(mask), 1 - mask]),  # on the grid of the representation
                "image": generated.image,  # x̂, x̂_h
                "map": generated.map_logits,  # of Â, Â_h
                "coarse": generated.coarse_logits,
            }
        )

    def discriminator_losses(self, step: Step) -> Losses:
        """All five kinds of pairs in one pass."""
        real = len(step["target"])
        images, maps, counts = [step["x"], step["x_h"], step["image"]], [step["target"], _drawn(step)], None
        if self.mismatched_pair and self.weights["adversarial"]:
            images.append(step["x_h"])
            maps.append(torch.ones_like(step["target"][: len(step["x_h"])]))
            # an augmentation that changed nothing visible leaves (x_h, 1) a true pair: it must not be called fake
            visible = step["mask"][len(step["x"]) :].flatten(1).amax(1)
            counts = torch.cat([visible.new_ones(len(step["image"])), visible])
        logits = self.discriminator(beside([torch.cat(images), torch.cat(maps)]))[1]
        return {"loss": losses.discriminator_loss(logits[:real], logits[real:], self.adversarial, counts)}

    def generator_losses(self, step: Step) -> Losses:
        """Attention loss and L1 to the clean image, each the sum over both branches, and the adversarial loss."""
        count = len(step["x"])
        terms = {
            "attention": self._attention_loss(step, count),
            "reconstruction": F.l1_loss(step["image"][:count], step["x"]) + F.l1_loss(step["image"][count:], step["x"]),
        }
        if self.weights["adversarial"]:
            fake = self.discriminator(beside([step["image"], _drawn(step)]))[1]
            terms["adversarial"] = losses.generator_adversarial_loss(fake, self.adversarial)
        return weighted(terms, self.weights)

    def _attention_loss(self, step: Step, count: int) -> Tensor:
        """Of both branches; a map at two resolutions has a loss of its own."""
        if step["map"].shape != step["coarse"].shape:
            return losses.fine_attention_loss(step["map"], step["coarse"], step["mask"])
        branches = zip(step["map"].split(count), step["target"].split(count), strict=True)
        clean, augmented = (losses.attention_loss(logits, target, self.map_loss) for logits, target in branches)
        return clean + augmented

    def guide(self, x: Tensor) -> Tensor:
        """The map (B, 1, h, w) in [0, 1] that guides stage 2, on the grid of the representation; either map may close a cell."""
        fine, coarse = self.generator.maps(x)
        return torch.sigmoid(torch.minimum(_pooled(fine, x), resized(coarse, x.shape[-2:])))

    def score(self, images: Tensor) -> MethodOutput:
        """Parts: mean of the map's top pixels, mean |x - x̂|. Map: 1 - attention map."""
        x = self.representation(images)
        return self.score_of(x, self.generator(x), images.shape[-2:])

    def score_of(self, x: Tensor, generated: Generated, size: Sequence[int]) -> MethodOutput:
        """`score` of a representation and what the generator made of it; maps are given at `size`."""
        assert generated.map_logits is not None, "an attention network's generator needs a map_head"
        assert generated.coarse_logits is not None
        return MethodOutput(
            parts={
                # of logits: the sigmoid saturates, and would tie the clearest cases
                "map": losses.top_mean(-generated.coarse_logits, self.top_fraction),
                "reconstruction": losses.per_image((self.representation.local(x) - generated.image).abs()),
            },
            anomaly_map=resized(torch.sigmoid(-generated.map_logits), size),
            attention_map=resized(torch.sigmoid(generated.map_logits), size),
            reconstruction=self.representation.image(generated.image),
        )


def _drawn(step: Step) -> Tensor:
    """Â, Â_h on the grid of the representation, where the discriminator sees them."""
    return _pooled(torch.sigmoid(step["map"]), step["target"])


def _pooled(maps: Tensor, like: Tensor) -> Tensor:
    """Averaged to the height and width of `like`."""
    return F.adaptive_avg_pool2d(maps, (like.shape[-2], like.shape[-1]))
