"""The losses of all methods: pure functions of tensors, each with its equation."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from anomap.errors import UserError

AdversarialKind = Literal["bce", "hinge"]
MapLossKind = Literal["bce", "focal"]


def _known(key: str, value: str, kinds: Any) -> None:
    """A misspelt kind must not silently become another loss."""
    if value not in get_args(kinds):
        raise UserError(f"model.objective.{key}={value}: not known; use {' or '.join(get_args(kinds))}")


def discriminator_loss(
    real_logits: Tensor, fake_logits: Tensor, kind: AdversarialKind = "bce", fake_counts: Tensor | None = None
) -> Tensor:
    """What the discriminator minimises; both logits are (B,), not necessarily of one length.

    bce (Goodfellow et al. 2014, eq. 1, halved as in GANomaly's code):
        L_D = 1/2 (-E[log σ(D(x))] - E[log(1 - σ(D(x̂)))])
    hinge (Lim & Ye 2017, as in SAGAN eq. 4):
        L_D = 1/2 (E[max(0, 1 - D(x))] + E[max(0, 1 + D(x̂))])

    `fake_counts` (B,) are 1, or 0 for fakes to leave out (choosing them by index would make a GPU wait); None: all count.
    """
    _known("adversarial", kind, AdversarialKind)
    if kind == "bce":
        real, fake = F.softplus(-real_logits), F.softplus(fake_logits)
    else:
        real, fake = F.relu(1 - real_logits), F.relu(1 + fake_logits)
    counts = torch.ones_like(fake) if fake_counts is None else fake_counts
    return 0.5 * (real.mean() + (fake * counts).sum() / counts.sum())


def generator_adversarial_loss(fake_logits: Tensor, kind: AdversarialKind = "bce") -> Tensor:
    """What the generator minimises to be taken for real: bce -E[log σ(D(x̂))] (non-saturating), hinge -E[D(x̂)]."""
    _known("adversarial", kind, AdversarialKind)
    return F.softplus(-fake_logits).mean() if kind == "bce" else -fake_logits.mean()


def focal_loss(logits: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """Binary focal loss (1708.02002, eq. 4, without α): mean of (1 - p_t)^γ · BCE; γ = 0 is BCE."""
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((1 - torch.exp(-bce)) ** gamma * bce).mean()


def dice_loss(prediction: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """1 - (2 Σ p t + s) / (Σ p + Σ t + s), over all pixels of the batch at once (Milletari et al. 2016, eq. 1 with plain sums)."""
    overlap = (prediction * target).sum()
    return 1 - (2 * overlap + smooth) / (prediction.sum() + target.sum() + smooth)


def attention_loss(map_logits: Tensor, target: Tensor, kind: MapLossKind = "bce") -> Tensor:
    """How far an attention map is from its target, both (B, 1, H, W), 1 = normal region.

    L_att = BCE(A, t) + Dice(A, t) + [t has abnormal pixels] Dice(1 - A, 1 - t)

    with the focal loss for BCE if asked. The first Dice term alone would hardly see a small abnormal region; without abnormal
    pixels the second would be a constant.
    """
    _known("map_loss", kind, MapLossKind)
    attention = torch.sigmoid(map_logits)
    pixel = (focal_loss if kind == "focal" else F.binary_cross_entropy_with_logits)(map_logits, target)
    has_abnormal = (target < 0.5).any().to(target.dtype)
    return pixel + dice_loss(attention, target) + has_abnormal * dice_loss(1 - attention, 1 - target)


def quality_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Focal loss for targets between 0 and 1: mean of (σ(l) - t)² · BCE(l, t) (2006.04388, eq. 3, β = 2)."""
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((torch.sigmoid(logits) - target).square() * bce).mean()


def fine_attention_loss(fine_logits: Tensor, coarse_logits: Tensor, mask: Tensor) -> Tensor:
    """The loss of an attention map at two resolutions, of clean and augmented images together; all (B, 1, height, width).

    With t the normal share of a fine cell, t_coarse 1 for a coarse cell that is wholly normal, u = 1 - σ(fine), and M the images
    that are abnormal somewhere (mask 1):

        L = 4 QFL(fine, t) + 1/4 BCE(fine, t) + mean over M of Dice(u, 1 - t) + 1/2 BCE(coarse, t_coarse)

    A speck smaller than a cell stays in the target as a share; focal weights and Dice keep it from drowning among normal cells.
    """
    abnormal = F.adaptive_avg_pool2d(mask, (fine_logits.shape[-2], fine_logits.shape[-1]))
    target, coarse = 1 - abnormal, 1 - F.adaptive_max_pool2d(mask, coarse_logits.shape[-2:])
    pixel = 4 * quality_focal_loss(fine_logits, target) + 0.25 * F.binary_cross_entropy_with_logits(fine_logits, target)
    drawn = torch.sigmoid(-fine_logits)
    overlap = (drawn * abnormal).sum((1, 2, 3))
    sizes = (drawn.square() + abnormal.square()).sum((1, 2, 3))
    present = (abnormal.flatten(1).amax(1) > 0).to(drawn.dtype)  # of a clean image Dice would only be a constant
    dice = ((1 - (2 * overlap + 1) / (sizes + 1)) * present).sum() / present.sum().clamp(min=1)
    return pixel + dice + 0.5 * F.binary_cross_entropy_with_logits(coarse_logits, coarse)


def top_mean(anomaly_map: Tensor, fraction: float) -> Tensor:
    """Mean of the highest `fraction` of an anomaly map (B, 1, H, W) -> (B,); at least one pixel."""
    pixels = anomaly_map.flatten(1)
    count = max(1, round(fraction * pixels.shape[1]))
    return pixels.topk(count, dim=1).values.mean(1)


def per_image(values: Tensor) -> Tensor:
    """Mean over everything but the batch: (B, ...) -> (B,)."""
    return values.flatten(1).mean(1)
