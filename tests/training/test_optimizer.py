"""Optimisers and schedules by name; Adam over channels-last weights: the same numbers and state, no copies."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from anomap.errors import UserError
from anomap.training.optimizer import ChannelsLastAdam, ChannelsLastAdamW, make_optimizer, make_scheduler


def _network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.ConvTranspose2d(8, 1, 4, 2, 1, bias=False), nn.BatchNorm2d(1))
    return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _step(net: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    optimizer.zero_grad()
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    net(x).pow(2).mean().backward()
    optimizer.step()


KINDS = [(torch.optim.Adam, ChannelsLastAdam), (torch.optim.AdamW, ChannelsLastAdamW)]


@pytest.mark.parametrize(("original", "faster"), KINDS)
def test_numbers_and_state_are_the_originals(original: Any, faster: Any) -> None:
    plain, net = _network(), _network()
    expected = original(plain.parameters(), lr=0.1, betas=(0.5, 0.9), weight_decay=0.3, fused=True)
    optimizer = faster(net.parameters(), lr=0.1, betas=(0.5, 0.9), weight_decay=0.3, fused=True)
    for seed in range(3):
        _step(plain, expected, seed)
        _step(net, optimizer, seed)
    torch.testing.assert_close(net.state_dict(), plain.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(optimizer.state_dict()["state"], expected.state_dict()["state"], rtol=0, atol=0)


@pytest.mark.parametrize(
    "options", [{"foreach": True, "amsgrad": True}, {"fused": True, "amsgrad": True}, {"foreach": False}]
)
def test_other_kinds_are_adams_too(options: dict[str, bool]) -> None:
    plain, net = _network(), _network()
    expected, optimizer = (
        kind(network.parameters(), lr=0.1, **options)  # pyright: ignore[reportArgumentType]
        for kind, network in ((torch.optim.Adam, plain), (ChannelsLastAdam, net))
    )
    for seed in range(2):
        _step(plain, expected, seed)
        _step(net, optimizer, seed)
    torch.testing.assert_close(net.state_dict(), plain.state_dict(), rtol=0, atol=0)


def test_goes_on_from_adams_state() -> None:
    plain = _network()
    expected = torch.optim.Adam(plain.parameters(), fused=True)
    _step(plain, expected, 0)
    net = copy.deepcopy(plain)
    optimizer = ChannelsLastAdam(net.parameters(), fused=True)
    optimizer.load_state_dict(copy.deepcopy(expected.state_dict()))
    _step(plain, expected, 1)
    _step(net, optimizer, 1)
    torch.testing.assert_close(net.state_dict(), plain.state_dict(), rtol=0, atol=0)


def _copied(kind: Any) -> list[list[int]]:
    """Shapes of the weights that a step copies."""
    net = _network()
    optimizer = kind(net.parameters(), fused=True)
    _step(net, optimizer, 0)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        optimizer.step()
    events = [event for event in seen.key_averages(group_by_input_shape=True) if event.key == "aten::copy_"]
    return [shape for event in events for shape in event.input_shapes if len(shape) == 4]


@pytest.mark.parametrize(("original", "faster"), KINDS)
def test_copies_no_weights(original: Any, faster: Any) -> None:
    assert _copied(faster) == []
    assert _copied(original) != []  # once this fails, PyTorch needs no help any more


# --- by name ---


def test_adam_and_adamw_are_fused_over_views_and_others_are_what_they_are() -> None:
    for name, kind in (("Adam", ChannelsLastAdam), ("AdamW", ChannelsLastAdamW), ("SGD", torch.optim.SGD)):
        made = make_optimizer({"_target_": f"torch.optim.{name}", "_partial_": True}, _network().parameters(), 0.2)
        assert type(made) is kind
        assert made.defaults["lr"] == 0.2
        assert made.defaults["fused"] is (None if name == "SGD" else True)


def test_what_is_frozen_is_not_trained() -> None:
    net = _network()
    net[0].requires_grad_(False)  # pyright: ignore
    (group,) = make_optimizer({"_target_": "torch.optim.Adam"}, net.parameters(), 0.1).param_groups
    assert {id(p) for p in group["params"]} == {id(p) for part in list(net.children())[1:] for p in part.parameters()}


@pytest.mark.parametrize(
    ("algorithm", "told"),
    [
        ({"_target_": "torch.optim.Adam", "beta": 3}, "algorithm: .*beta"),
        ({"_target_": "torch.optim.Adamm"}, "no such class"),
        ({"_target_": "os.system"}, "not allowed"),
        ({}, "not allowed"),
    ],
)
def test_what_is_no_optimiser_is_one_line(algorithm: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told) as raised:
        make_optimizer(algorithm, _network().parameters(), 0.1)
    assert "\n" not in str(raised.value)


def _rates(schedule: Any, length: int = 10) -> list[float]:
    net = _network()
    optimizer = make_optimizer({"_target_": "torch.optim.SGD"}, net.parameters(), 2.0)
    scheduler, rates = make_scheduler(schedule, optimizer, length), []
    for seed in range(length):
        rates.append(optimizer.param_groups[0]["lr"])
        _step(net, optimizer, seed)
        scheduler.step()
    return [*rates, optimizer.param_groups[0]["lr"]]


def test_schedules_by_name() -> None:
    assert set(_rates("constant")) == {2.0}
    assert _rates("cosine") == pytest.approx([1 + math.cos(math.pi * step / 10) for step in range(11)], abs=1e-12)
    cycle = _rates("one_cycle", 11)
    assert max(cycle) == pytest.approx(2.0, rel=0.05)
    assert cycle.index(max(cycle)) in (2, 3)
    assert cycle[-2] < 1e-3


def test_any_scheduler_of_torch_gets_the_length_unless_told() -> None:
    names = {"_target_": "torch.optim.lr_scheduler.LinearLR", "start_factor": 1.0, "end_factor": 0.5}
    assert _rates(names)[-1] == pytest.approx(1.0)
    assert _rates({**names, "total_iters": 2})[2] == pytest.approx(1.0)
    assert _rates({"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 5, "gamma": 0.1})[5] == pytest.approx(
        0.2
    )


@pytest.mark.parametrize(
    ("schedule", "told"),
    [("linear", "use constant, cosine, one_cycle"), ({"_target_": "torch.optim.lr_scheduler.StepLR"}, "step_size")],
)
def test_what_is_no_schedule_is_one_line(schedule: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        make_scheduler(schedule, torch.optim.SGD(_network().parameters(), 0.1), 10)
