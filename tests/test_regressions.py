"""What the first published attempt got wrong, each as a test: black images, a failing target, boxes by loops, impure
losses, and scores that depend on the batch.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from anomap.augmentation.fills import Fill
from anomap.augmentation.regions import Region
from anomap.config import build
from anomap.data.imageset import ImageSet
from anomap.data.sampler import SequentialBatches
from anomap.data.samples import Sample
from anomap.detection.scoring import ScoringModel
from anomap.objectives.attention_network import AttentionNetwork
from anomap.objectives.base import AdversarialObjective, Objective
from anomap.objectives.losses import attention_loss
from tests import tiny

pytestmark = pytest.mark.thorough


def train(method: AdversarialObjective, batch: Mapping[str, Tensor], steps: int, rate: float = 2e-3) -> None:
    """Alternate both steps, as the LightningModule does."""
    method.train()
    networks = (method.discriminator, method.generator)
    optimizers = [torch.optim.Adam(net.parameters(), rate, betas=(0.5, 0.999)) for net in networks]
    for _ in range(steps):
        step = method.generate(batch)
        for optimizer, losses, state in zip(
            optimizers, (method.discriminator_losses, method.generator_losses), (step.detached(), step), strict=True
        ):
            loss = losses(state)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    method.eval()


# --- 1. generated images turned black ---


@pytest.mark.parametrize("level", [0.12, 0.85], ids=["dark", "bright"])
@pytest.mark.parametrize("model", tiny.TRAINED)
def test_generated_images_do_not_turn_black(model: str, level: float) -> None:
    """Neither the clean nor the augmented branch: mean and spread stay those of the clean images."""
    method = tiny.objective(model)
    batch: dict[str, Tensor] = dict(tiny.batch(8))
    batch["image"] = level + 0.25 * (batch["image"] - 0.5)
    batch["augmented"] = torch.where(batch["mask"] > 0, 1 - level, batch["image"])
    tiny.fitted(method, batch["image"])
    if method.eval().score(batch["image"]).reconstruction is None:
        pytest.skip(f"{model} has no reconstruction in image space")
    train(method, batch, 60)
    for images in (batch["image"], batch["augmented"]):
        with torch.no_grad():
            made = method.score(images).reconstruction
        assert made is not None
        assert (made.mean((1, 2, 3)) - batch["image"].mean((1, 2, 3))).abs().max() < 0.1
        ratio = made.std((1, 2, 3)) / batch["image"].std((1, 2, 3))
        assert ratio.min() > 0.4
        assert ratio.max() < (2.5 if images is batch["image"] else 4)


def test_the_augmented_branch_is_reconstructed_towards_the_clean_image() -> None:
    """Without this the anomaly is copied, or, as in the first attempt, anything goes."""
    method: AttentionNetwork = tiny.objective("attention_network")
    batch = tiny.batch(4)
    step = method.generate(batch)
    step["image"] = torch.cat([step["x"], step["x"]])
    assert method.generator_losses(step)["reconstruction"] == 0
    step["image"] = torch.cat([step["x"], step["x_h"]])
    assert method.generator_losses(step)["reconstruction"] > 0.01


# --- 2. training failed with the attention target 1 ---


@pytest.mark.parametrize("augmented", [False, True], ids=["target 1 alone", "with augmented images"])
def test_the_attention_loss_on_clean_images_falls_below_005(augmented: bool) -> None:
    method: AttentionNetwork = tiny.objective("attention_network")
    batch: dict[str, Tensor] = dict(tiny.batch(8))
    if not augmented:
        batch |= {"augmented": batch["image"], "mask": torch.zeros_like(batch["mask"])}
    with torch.no_grad():
        before = attention_loss(method.generate(batch)["map"][:8], torch.ones_like(batch["mask"]))
    train(method, batch, 350 if augmented else 200)
    with torch.no_grad():
        map_logits = method.generator(batch["image"] * 2 - 1).map_logits
        assert attention_loss(map_logits, torch.ones_like(map_logits)) < 0.05 < before
        if augmented:  # and it is no constant: the hole is found
            attention = torch.sigmoid(method.generator(batch["augmented"] * 2 - 1).map_logits)
            outside = attention[batch["mask"] == 0].mean()
            assert outside > 0.9
            assert attention[batch["mask"] > 0].mean() < outside - 0.25


def test_the_map_is_a_head_of_its_own_not_the_image_scaled() -> None:
    method: AttentionNetwork = tiny.objective("attention_network")
    tiny.busy(method)
    x = tiny.textures(2) * 2 - 1
    with torch.no_grad():
        first = method.generator(x)
        method.generator.fine_head.fine_logits.bias.add_(3.0)  # pyright: ignore
        second = method.generator(x)
    assert torch.equal(first.image, second.image)
    torch.testing.assert_close(first.map_logits + 3, second.map_logits)


# --- 3. cutout was a loop over grey boxes ---


def test_hard_augmentation_calls_each_kind_once_whatever_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    augmentation = build(tiny.config("augmentation=hard")["augmentation"])
    calls: list[str] = []

    def counted(part: Region | Fill) -> None:
        original = type(part).__call__

        def call(self: Any, *args: Any, **kwargs: Any) -> Tensor:
            calls.append(type(self).__name__)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(type(part), "__call__", call)

    for part in (*augmentation.regions.values(), *augmentation.fills.values()):
        counted(part)
    counts: dict[int, int] = {}
    donors = (tiny.textures(8, seed=7) * 255).byte().numpy()
    for size in (256, 512):
        calls.clear()
        images = tiny.textures(size)
        augmented, mask = augmentation(images, torch.arange(size), 0, donors)
        counts[size] = len(calls)
        assert len(calls) == len(set(calls))
        assert mask.flatten(1).any(1).float().mean() > 0.9  # every image has its own mask
        assert len({m.numpy().tobytes() for m in mask}) > size // 2
        assert not torch.equal(augmented, images)
    assert counts[256] == counts[512] == len(augmentation.regions) + len(augmentation.fills)


# --- 4. the losses: tests/objectives/test_losses.py; here, those of whole methods ---


@pytest.mark.parametrize("model", tiny.TRAINED)
def test_the_losses_of_a_method_are_pure(model: str) -> None:
    """The same step gives the same losses, and computing them changes neither step nor weights."""
    method: AdversarialObjective = tiny.busy(tiny.objective(model))  # pyright: ignore[reportAssignmentType]
    with torch.no_grad():
        step = method.generate(tiny.batch(4))
        kept = {name: tensor.clone() for name, tensor in step.items()}
        weights = {name: tensor.clone() for name, tensor in method.state_dict().items()}
        first = [method.generator_losses(step), method.discriminator_losses(step.detached())]
        method.generator_losses(method.generate(tiny.batch(3, seed=5)))  # something else in between
        torch.rand(7)
        second = [method.generator_losses(step), method.discriminator_losses(step.detached())]
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(torch.equal(kept[name], tensor) for name, tensor in step.items())
    assert all(torch.equal(weights[name], tensor) for name, tensor in method.state_dict().items())


# --- 5. the score depended on the batch, and the last images were dropped ---


@pytest.mark.parametrize("model", tiny.MODELS)
@torch.no_grad()
def test_a_score_is_of_the_image_alone(model: str) -> None:
    """Deterministic; whatever the size of the batch, its order, and who else is in it."""
    detector = ScoringModel(tiny.busy(tiny.objective(model)), (tiny.SIZE, tiny.SIZE))
    detector.calibrate([{"image": tiny.textures(8, seed=1)}])
    images = torch.cat([tiny.textures(4, seed=2), tiny.batch(3, seed=3)["augmented"]])
    raw = (images * 255).round().to(torch.uint8)
    scores, maps = detector(raw)
    assert scores.std() > 1e-6  # else nothing is tested
    again = detector(raw)
    assert torch.equal(scores, again[0])
    assert torch.equal(maps, again[1])
    close: Any = {"rtol": 1e-3, "atol": 1e-4 * float(scores.abs().max().clamp(min=1e-3))}
    for size in (1, 2, 3):
        parts = [detector(part) for part in raw.split(size)]
        torch.testing.assert_close(torch.cat([part[0] for part in parts]), scores, **close)
        torch.testing.assert_close(torch.cat([part[1] for part in parts]), maps, rtol=1e-3, atol=1e-4)
    order = torch.randperm(len(raw))
    torch.testing.assert_close(detector(raw[order])[0], scores[order], **close)
    for companion in (torch.zeros_like(raw[:5]), torch.full_like(raw[:5], 255), raw[:1].repeat(5, 1, 1, 1)):
        torch.testing.assert_close(detector(torch.cat([companion, raw]))[0][5:], scores, **close)


@pytest.mark.parametrize("model", tiny.MODELS)
def test_scoring_changes_nothing(model: str) -> None:
    """No backward pass, no running statistics, no random numbers at test time."""
    method: Objective = tiny.busy(tiny.objective(model))
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    state = torch.get_rng_state()
    method.score(tiny.textures(3))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in method.state_dict().items())
    assert all(parameter.grad is None for parameter in method.parameters())


@pytest.mark.parametrize(("count", "size"), [(7, 4), (5, 1), (3, 8), (64, 64), (65, 64)])
def test_no_test_image_is_dropped(count: int, size: int) -> None:
    samples = [Sample(f"{number}.png", number % 2, "x") for number in range(count)]
    images = ImageSet(np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1), samples)
    sampler = SequentialBatches(count, size)
    batches = list(sampler)
    assert len(sampler) == len(batches) == math.ceil(count / size)
    served = torch.cat([images[index]["image"].flatten() for index in batches])
    assert served.tolist() == list(range(count))
