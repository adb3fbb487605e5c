"""Every loss against numbers worked out by hand, and what must hold for all inputs."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from anomap.errors import UserError
from anomap.objectives.base import weighted
from anomap.objectives.losses import (
    attention_loss,
    dice_loss,
    discriminator_loss,
    focal_loss,
    generator_adversarial_loss,
    per_image,
    top_mean,
)

LOG2 = math.log(2)
LOG3 = math.log(3)  # σ(log 3) = 3/4

quick = settings(max_examples=50, deadline=None)
logits = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=30).map(torch.tensor)


@st.composite
def maps(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """A prediction in [0, 1] and a binary target, both (B, 1, 4, 4)."""
    seed, count, share = (
        draw(st.integers(0, 10_000)),
        draw(st.integers(1, 3)),
        draw(st.sampled_from([0.0, 0.1, 0.5, 1])),
    )
    generator = torch.Generator().manual_seed(seed)
    shape = (count, 1, 4, 4)
    return torch.rand(shape, generator=generator), (torch.rand(shape, generator=generator) < share).float()


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # real: -log 3/4; fake: -log(1 - 1/2)
        (discriminator_loss(torch.tensor([LOG3]), torch.tensor([0.0])), (math.log(4 / 3) + LOG2) / 2),
        (discriminator_loss(torch.tensor([0.0, 0.0]), torch.tensor([LOG3])), (LOG2 + math.log(4)) / 2),
        # real: mean of 0.5 and 0; fake: mean of 0, 1 and 3
        (discriminator_loss(torch.tensor([0.5, 2.0]), torch.tensor([-1.5, 0.0, 2.0]), "hinge"), (0.25 + 4 / 3) / 2),
        (generator_adversarial_loss(torch.tensor([LOG3, 0.0])), (math.log(4 / 3) + LOG2) / 2),
        (generator_adversarial_loss(torch.tensor([2.0, -5.0]), "hinge"), 1.5),
        # p_t = 3/4 where the target is 1, 1/4 where it is 0
        (
            focal_loss(torch.tensor([LOG3, LOG3]), torch.tensor([1.0, 0.0])),
            (math.log(4 / 3) / 16 + math.log(4) * 9 / 16) / 2,
        ),
        # 1 - (2 * 0.5 + 1) / (0.75 + 1 + 1)
        (dice_loss(torch.tensor([0.5, 0.25]), torch.tensor([1.0, 0.0])), 1 - 2 / 2.75),
        (dice_loss(torch.zeros(3), torch.ones(3)), 0.75),
        # A = (3/4, 1/4), t = (1, 0): BCE log 4/3, both Dice terms 1 - (2 * 3/4 + 1) / (1 + 1 + 1)
        (attention_loss(torch.tensor([LOG3, -LOG3]), torch.tensor([1.0, 0.0])), math.log(4 / 3) + 2 * (1 - 2.5 / 3)),
        # no abnormal pixel: A = 1/2 on 4 pixels, one Dice term, 1 - (2 * 2 + 1) / (2 + 4 + 1)
        (attention_loss(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)), LOG2 + 1 - 5 / 7),
        (
            attention_loss(torch.tensor([LOG3, -LOG3]), torch.tensor([1.0, 0.0]), "focal"),
            math.log(4 / 3) / 16 + 2 * (1 - 2.5 / 3),
        ),
    ],
)
def test_known_answers(loss: Tensor, expected: float) -> None:
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_top_mean_and_per_image_known_answers() -> None:
    ramp = torch.arange(16.0).view(1, 1, 4, 4)
    maps = torch.cat([ramp, 100 - ramp])
    assert top_mean(maps, 0.25).tolist() == [13.5, 98.5]  # 12..15, and 97..100
    assert top_mean(maps, 0.001).tolist() == [15, 100]  # never fewer than one pixel
    assert top_mean(maps, 1.0).tolist() == per_image(maps).tolist() == [7.5, 92.5]


@quick
@given(st.floats(-5, 5, width=32), st.floats(0.001, 1), st.integers(1, 3))
def test_top_mean_of_a_constant_is_the_constant(value: float, fraction: float, count: int) -> None:
    torch.testing.assert_close(top_mean(torch.full((count, 1, 5, 7), value), fraction), torch.full((count,), value))


@quick
@given(maps())
def test_dice_is_between_0_and_1_and_0_for_a_perfect_map(pair: tuple[Tensor, Tensor]) -> None:
    prediction, target = pair
    assert -1e-6 <= dice_loss(prediction, target).item() <= 1 + 1e-6
    assert dice_loss(target, target).item() == pytest.approx(0, abs=1e-6)


@quick
@given(maps(), st.sampled_from(["bce", "focal"]))
def test_attention_loss_vanishes_at_perfect_logits_and_nowhere_else(pair: tuple[Tensor, Tensor], kind: Any) -> None:
    target = pair[1]
    perfect = (target * 2 - 1) * 30
    assert attention_loss(perfect, target, kind).item() == pytest.approx(0, abs=1e-5)
    wrong = perfect.clone()
    wrong[0, 0, 0, 0] *= -1
    assert attention_loss(wrong, target, kind).item() > 0.01


def test_attention_loss_sees_a_missed_small_region_clearly() -> None:
    """One abnormal pixel of 1024 all but vanishes in BCE and in the normal term's Dice; the abnormal term's shows it."""
    target = torch.ones(1, 1, 32, 32)
    target[..., 5, 5] = 0
    blind = torch.full_like(target, 6.0)
    assert attention_loss(blind, target) > 0.25


@quick
@given(logits, logits)
def test_hinge_is_zero_exactly_when_margins_are_met(real: Tensor, fake: Tensor) -> None:
    loss = discriminator_loss(real, fake, "hinge")
    met = bool((real >= 1).all() and (fake <= -1).all())
    assert (loss.item() == 0) == met
    assert discriminator_loss(1 + real.abs(), -1 - fake.abs(), "hinge").item() == 0


@quick
@given(logits, st.integers(0, 1000))
def test_focal_with_gamma_0_is_bce_and_never_above_it(values: Tensor, seed: int) -> None:
    target = (torch.rand(values.shape, generator=torch.Generator().manual_seed(seed)) < 0.5).float()
    bce = F.binary_cross_entropy_with_logits(values, target)
    torch.testing.assert_close(focal_loss(values, target, gamma=0), bce)
    assert focal_loss(values, target) <= bce + 1e-6


@quick
@given(logits, logits)
def test_bce_of_the_discriminator_is_binary_cross_entropy(real: Tensor, fake: Tensor) -> None:
    expected = F.binary_cross_entropy_with_logits(real, torch.ones_like(real)) / 2
    expected = expected + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake)) / 2
    torch.testing.assert_close(discriminator_loss(real, fake), expected)
    torch.testing.assert_close(
        generator_adversarial_loss(fake), F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))
    )


@pytest.mark.parametrize("kind", ["bce", "hinge"])
def test_the_adversarial_losses_pull_apart(kind: Any) -> None:
    """The discriminator wants real up and fake down; the generator wants fake up."""
    real, fake = torch.zeros(2, requires_grad=True), torch.zeros(3, requires_grad=True)
    discriminator_loss(real, fake, kind).backward()
    assert real.grad is not None
    assert fake.grad is not None
    assert (real.grad < 0).all()
    assert (fake.grad > 0).all()
    fake.grad = None
    generator_adversarial_loss(fake, kind).backward()
    assert torch.all(torch.as_tensor(fake.grad) < 0)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "discriminator bce": lambda a, b: discriminator_loss(a.flatten(), b.flatten()),
    "discriminator hinge": lambda a, b: discriminator_loss(a.flatten(), b.flatten(), "hinge"),
    "generator bce": lambda a, b: generator_adversarial_loss(a.flatten()),
    "generator hinge": lambda a, b: generator_adversarial_loss(a.flatten(), "hinge"),
    "focal": focal_loss,
    "dice": lambda a, b: dice_loss(a.sigmoid(), b),
    "attention bce": attention_loss,
    "attention focal": lambda a, b: attention_loss(a, b, "focal"),
    "top_mean": lambda a, b: top_mean(a, 0.1),
    "per_image": lambda a, b: per_image(a),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_pure(name: str) -> None:
    """The same input gives the same output, whatever came before; nothing outside is read or changed."""
    loss = LOSSES[name]
    a, b = torch.randn(2, 1, 8, 8), (torch.rand(2, 1, 8, 8) < 0.5).float()
    kept, state = (a.clone(), b.clone()), torch.get_rng_state()
    first = loss(a, b)
    loss(torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(1)), torch.ones(3, 1, 4, 4))
    torch.rand(5)
    assert torch.equal(loss(a, b), first)
    assert torch.equal(a, kept[0])
    assert torch.equal(b, kept[1])
    torch.set_rng_state(state)
    loss(a, b)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_stay_finite_at_extreme_logits(name: str) -> None:
    extreme = torch.tensor([-1e4, 1e4, 0.0, -90.0]).view(1, 1, 2, 2).requires_grad_()
    loss = LOSSES[name](extreme, torch.tensor([1.0, 0.0, 1.0, 0.0]).view(1, 1, 2, 2)).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert extreme.grad is not None
    assert torch.isfinite(extreme.grad).all()


@pytest.mark.parametrize(
    ("key", "call"),
    [
        ("adversarial=wgan", lambda kind: discriminator_loss(torch.zeros(1), torch.zeros(1), kind)),
        ("adversarial=wgan", lambda kind: generator_adversarial_loss(torch.zeros(1), kind)),
        ("map_loss=wgan", lambda kind: attention_loss(torch.zeros(1), torch.ones(1), kind)),
    ],
)
def test_an_unknown_kind_is_refused_not_replaced(key: str, call: Callable[[Any], Tensor]) -> None:
    with pytest.raises(UserError, match=key):
        call("wgan")


def test_weighted_adds_terms_and_leaves_weight_0_out_of_the_graph() -> None:
    a, b = torch.tensor(2.0, requires_grad=True), torch.tensor(3.0, requires_grad=True)
    losses = weighted({"a": a**2, "b": b**2}, {"a": 5, "b": 0})
    assert losses["loss"].item() == 20
    assert losses["b"].item() == 9
    assert not losses["a"].requires_grad
    losses["loss"].backward()
    assert a.grad is not None
    assert a.grad.item() == 20
    assert b.grad is None
