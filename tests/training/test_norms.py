"""BatchNorm's statistics for the weights that score."""

import torch
from torch import nn

from anomap.training.norms import settle_norms, settled_norms
from tests import tiny


def norms(method: nn.Module) -> list[nn.BatchNorm2d]:
    return [part for part in method.modules() if isinstance(part, nn.BatchNorm2d)]


def test_statistics_are_those_of_the_images_and_nothing_else_changes() -> None:
    method = tiny.objective("ganomaly").eval()
    weights = {name: value.clone() for name, value in method.named_parameters()}
    images = [tiny.textures(6, tiny.CHANNELS, tiny.SIZE, seed) for seed in range(3)]
    seen: dict[nn.Module, list[torch.Tensor]] = {}

    def keep(norm: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        seen.setdefault(norm, []).append(inputs[0].detach())

    hooks = [norm.register_forward_pre_hook(keep) for norm in norms(method)]
    settle_norms(method, images)
    for hook in hooks:
        hook.remove()
    assert len(seen) >= 3
    for norm, inputs in seen.items():
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        torch.testing.assert_close(norm.running_mean, torch.stack([x.mean((0, 2, 3)) for x in inputs]).mean(0))
        torch.testing.assert_close(norm.running_var, torch.stack([x.var((0, 2, 3)) for x in inputs]).mean(0))
    assert not any(norm.training for norm in norms(method))
    assert {norm.momentum for norm in norms(method)} == {0.1}
    assert all(torch.equal(value, weights[name]) for name, value in method.named_parameters())


def test_a_batch_of_one_image_is_left_out() -> None:
    method, same = (tiny.objective("ganomaly").eval() for _ in range(2))
    several, one = tiny.textures(5, tiny.CHANNELS, tiny.SIZE, 0), tiny.textures(1, tiny.CHANNELS, tiny.SIZE, 9)
    settle_norms(method, [one, several, one])
    settle_norms(same, [several])
    state = same.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())
    before = {name: value.clone() for name, value in method.state_dict().items()}
    settle_norms(method, [one])
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_for_a_while_leaves_no_trace() -> None:
    method, same = (tiny.objective("ganomaly").eval() for _ in range(2))
    images = [tiny.textures(5, tiny.CHANNELS, tiny.SIZE, 0)]
    before = {name: value.clone() for name, value in method.state_dict().items()}
    settle_norms(same, images)
    with settled_norms(method, images):
        inside = {name: value.clone() for name, value in method.state_dict().items()}
    assert all(torch.equal(value, inside[name]) for name, value in same.state_dict().items())
    assert any(not torch.equal(value, inside[name]) for name, value in before.items())
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
