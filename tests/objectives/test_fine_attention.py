"""The loss of a map at two resolutions, the density beside it, and the method over both."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from anomap.objectives.attention_network import AttentionNetwork
from anomap.objectives.base import compressed, weighed_parts
from anomap.objectives.density import GlobalGaussian
from anomap.objectives.feature_attention_network import FeatureAttentionNetwork
from anomap.objectives.losses import discriminator_loss, fine_attention_loss, quality_focal_loss
from anomap.objectives.whitening import Scaling
from tests import tiny


def logits_of(normal: Tensor) -> Tensor:
    """Logits of a map that is nearly sure."""
    return (normal * 2 - 1) * 12


def test_quality_focal_loss_is_its_equation() -> None:
    logits, target = torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.25])
    p = 1 / (1 + math.exp(-2.0))
    bce = -(0.25 * math.log(p) + 0.75 * math.log(1 - p))
    expected = (0.25 * math.log(2) + (p - 0.25) ** 2 * bce) / 2
    assert quality_focal_loss(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_a_right_map_costs_next_to_nothing_and_a_wrong_one_much() -> None:
    mask = torch.zeros(2, 1, 16, 16)
    mask[1, 0, 4:8, 4:8] = 1
    fine, coarse = F.avg_pool2d(1 - mask, 2), F.avg_pool2d(1 - mask, 4)
    assert fine_attention_loss(logits_of(fine), logits_of(coarse), mask) < 0.01
    assert fine_attention_loss(logits_of(torch.ones_like(fine)), logits_of(coarse), mask) > 0.5
    assert fine_attention_loss(logits_of(fine), logits_of(1 - coarse), mask) > 0.5


def test_a_speck_smaller_than_a_cell_still_pulls_at_its_cell() -> None:
    mask = torch.zeros(1, 1, 32, 32)
    mask[0, 0, 9, 9] = 1  # a sixteenth of a cell of the fine map
    fine, coarse = torch.full((1, 1, 8, 8), 3.0, requires_grad=True), torch.full((1, 1, 4, 4), 3.0, requires_grad=True)
    fine_attention_loss(fine, coarse, mask).backward()
    assert fine.grad is not None
    assert coarse.grad is not None
    assert fine.grad[0, 0, 2, 2] > 0.2 * fine.grad[0, 0, 5, 5].abs()
    assert fine.grad[0, 0, 2, 2] > fine.grad[0, 0, 5, 5]  # down, towards abnormal
    assert coarse.grad.flatten().argmax() == 5


def test_clean_images_alone_have_no_dice_term() -> None:
    logits = torch.zeros(2, 1, 4, 4)
    loss = fine_attention_loss(logits, logits, torch.zeros(2, 1, 8, 8))
    assert loss.item() == pytest.approx((4 * 0.25 + 0.25 + 0.5) * math.log(2), rel=1e-5)


def test_fakes_that_count_nothing_change_no_loss() -> None:
    real, fake = torch.randn(3), torch.randn(4)
    counts = torch.tensor([1.0, 0.0, 1.0, 0.0])
    for kind in ("bce", "hinge"):
        assert discriminator_loss(real, fake, kind, counts) == pytest.approx(
            discriminator_loss(real, fake[counts > 0], kind).item(), rel=1e-6
        )


def test_scaling_gives_each_channel_mean_0_and_variance_1_over_all_batches() -> None:
    x = torch.randn(7, 3, 4, 5) * torch.tensor([1.0, 5.0, 0.1])[:, None, None] + 2
    scaling = Scaling(3)
    for part in x.split(3):
        scaling.add(part)
    scaling.finish()
    scaled = scaling(x)
    assert torch.allclose(scaled.mean((0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(scaled.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-3)


def test_compression_changes_nothing_up_to_three_deviations_and_keeps_the_order() -> None:
    x = torch.tensor([-4.0, 0.0, 3.0, 4.0, 1e6])
    y = compressed(x)
    assert torch.equal(y[:3], x[:3])
    assert (y.diff() > 0).all()
    assert y[-1] < 20


def test_parts_come_in_the_methods_order_with_their_weights() -> None:
    known = ("density", "map", "image")
    assert weighed_parts({"map": 2, "density": 0.5}, known) == {"density": 0.5, "map": 2.0}
    assert list(weighed_parts(["image", "density"], known)) == ["density", "image"]
    assert weighed_parts({"density": 1, "map": 0}, known) == {"density": 1.0}


@pytest.mark.parametrize("parts", [[], ["density", "size"], {"map": 0}, {"map": -1, "density": 1}])
def test_parts_that_make_no_score_are_refused(parts: Any) -> None:
    with pytest.raises(ValueError, match="use some of"):
        weighed_parts(parts, ("density", "map"))


def test_the_peak_is_the_highest_value_of_the_anomaly_map() -> None:
    method = tiny.objective("feature_attention_network").eval()
    method.learn_statistics([torch.rand(12, 1, 64, 64)])
    output = method.score(torch.rand(2, 1, 64, 64))
    assert output.parts["peak"].tolist() == output.anomaly_map.amax((1, 2, 3)).tolist()


def test_the_whole_image_counts_by_images_per_dimension() -> None:
    gaussian = GlobalGaussian()
    assert gaussian.support == 0
    gaussian.fit(torch.randn(6, 24))
    assert gaussian.support == 0.25
    gaussian.fit(torch.randn(50, 24))
    assert gaussian.support == 1
    both_stages = tiny.objective("feature_adgan").eval()
    first: FeatureAttentionNetwork = both_stages.stage1
    first.learn_statistics([torch.rand(12, 1, 64, 64)])
    share = 12 / len(first.whole.mean)
    assert 0 < share < 1
    assert first.part_shares() == both_stages.part_shares() == {"image": pytest.approx(share)}


def test_either_map_closes_a_cell_of_the_guide(monkeypatch: pytest.MonkeyPatch) -> None:
    method: AttentionNetwork = tiny.objective("attention_network")
    fine, coarse = torch.full((1, 1, 32, 32), 9.0), torch.full((1, 1, 16, 16), 9.0)
    fine[..., 0, 0] = coarse[..., 15, 15] = -9.0
    monkeypatch.setattr(method.generator, "maps", lambda x: (fine, coarse))
    guide = method.guide(torch.zeros(1, 1, 32, 32))[0, 0]
    assert guide.shape == (32, 32)
    assert guide[0, 0] < 0.1  # by the fine map
    assert guide[31, 31] < 0.1  # by the coarse one
    assert guide[16, 16] > 0.9
