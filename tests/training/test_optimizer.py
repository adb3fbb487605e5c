"""Adam over channels-last weights: the same numbers, the same state, no copies."""

import copy

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from anomap.training.optimizer import ChannelsLastAdam


def _network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 4, 2, 1), nn.ConvTranspose2d(8, 1, 4, 2, 1, bias=False), nn.BatchNorm2d(1))
    return net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _step(net: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    optimizer.zero_grad()
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    net(x).pow(2).mean().backward()
    optimizer.step()


def test_numbers_and_state_are_adams() -> None:
    plain, net = _network(), _network()
    expected = torch.optim.Adam(plain.parameters(), lr=0.1, betas=(0.5, 0.9), fused=True)
    optimizer = ChannelsLastAdam(net.parameters(), lr=0.1, betas=(0.5, 0.9), fused=True)
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


def _copied(kind: type[torch.optim.Adam]) -> list[list[int]]:
    """Shapes of the weights that a step copies."""
    net = _network()
    optimizer = kind(net.parameters(), fused=True)
    _step(net, optimizer, 0)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
        optimizer.step()
    events = [event for event in seen.key_averages(group_by_input_shape=True) if event.key == "aten::copy_"]
    return [shape for event in events for shape in event.input_shapes if len(shape) == 4]


def test_copies_no_weights() -> None:
    assert _copied(ChannelsLastAdam) == []
    assert _copied(torch.optim.Adam) != []  # once this fails, PyTorch needs no help any more
