"""The counter-based generator: known answers, distribution, independence, and no dependence on the batch."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from anomap.augmentation.random import Draw, between, integer, log_between, mix, sign


def splitmix64(state: int) -> int:
    """The published algorithm in unsigned arithmetic, independent of torch's int64."""
    mask = (1 << 64) - 1
    z = (state + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def kolmogorov(sample: Tensor) -> float:
    """sqrt(n) times the largest distance between the sample's distribution and the uniform one."""
    ordered = sample.flatten().double().sort().values
    n = len(ordered)
    above = (torch.arange(1, n + 1) / n - ordered).max()
    below = (ordered - torch.arange(n) / n).max()
    return math.sqrt(n) * max(above.item(), below.item())


def correlation(a: Tensor, b: Tensor) -> float:
    return torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1].item()


def test_mix_gives_the_published_sequence() -> None:
    # The first outputs of SplitMix64 seeded with 0.
    states = torch.tensor([0, signed(0x9E3779B97F4A7C15)])
    assert mix(states).tolist() == [signed(0xE220A8397B1DCDAF), signed(0x6E789E6AA1B965F4)]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20))
def test_mix_is_unsigned_splitmix64_for_any_bits(values: list[int]) -> None:
    assert mix(torch.tensor(values)).tolist() == [signed(splitmix64(v & (2**64 - 1))) for v in values]


def test_numbers_never_change_between_versions() -> None:
    draw = Draw.at(seed=7, epoch=3, index=torch.tensor([0, 12]))
    assert draw.uniform("area", 2).tolist() == [
        [0.7428039312362671, 0.3158394694328308],
        [0.9964752197265625, 0.3452809453010559],
    ]
    assert draw.normal("noise", 3).shape == (2, 3)
    assert draw.fork("layer", 1).uniform("area").tolist() == [0.9943807125091553, 0.9158294796943665]


def test_uniform_is_uniform() -> None:
    numbers = Draw.at(0, 0, torch.arange(2000)).uniform("u", 50)
    assert numbers.min() >= 0.0
    assert numbers.max() < 1.0
    assert kolmogorov(numbers) < 1.63  # 1 % critical value
    assert numbers.double().mean().item() == pytest.approx(0.5, abs=0.005)
    assert numbers.double().var().item() == pytest.approx(1 / 12, abs=0.002)


@pytest.mark.parametrize("axis", ["seed", "epoch", "index", "position"])
def test_uniform_along_each_part_of_the_address(axis: str) -> None:
    steps = range(4000)
    zero = torch.tensor([0])
    if axis == "index":
        numbers = Draw.at(0, 0, torch.arange(4000)).uniform("u")
    elif axis == "position":
        numbers = Draw.at(0, 0, zero).uniform("u", 4000)[0]
    else:
        numbers = torch.cat([Draw.at(**{"seed": 0, "epoch": 0, "index": zero, axis: i}).uniform("u") for i in steps])
    assert kolmogorov(numbers) < 1.63
    assert abs(correlation(numbers[1:], numbers[:-1])) < 0.06


def test_normal_is_normal() -> None:
    numbers = Draw.at(0, 0, torch.arange(1000)).normal("n", 100).double()
    assert torch.isfinite(numbers).all()
    assert numbers.mean().item() == pytest.approx(0.0, abs=0.01)
    assert numbers.var().item() == pytest.approx(1.0, abs=0.02)
    assert kolmogorov(0.5 * (1 + torch.erf(numbers / math.sqrt(2)))) < 1.63


def test_streams_epochs_seeds_and_forks_are_unrelated() -> None:
    index = torch.arange(500)
    draw = Draw.at(0, 0, index)
    base = draw.uniform("a", 20)
    others = {
        "stream": draw.uniform("b", 20),
        "epoch": Draw.at(0, 1, index).uniform("a", 20),
        "seed": Draw.at(1, 0, index).uniform("a", 20),
        "fork": draw.fork("a").uniform("a", 20),
        "number": draw.fork("a", 1).uniform("a", 20),
        "neighbour": Draw.at(0, 0, index + 1).uniform("a", 20),
        "swapped": Draw(mix(draw.keys)).uniform("a", 20),
    }
    for other in others.values():
        assert abs(correlation(base, other)) < 0.05
        assert (base == other).float().mean() < 0.001


def test_seed_and_epoch_are_not_interchangeable() -> None:
    index = torch.arange(50)
    assert not torch.equal(Draw.at(1, 2, index).keys, Draw.at(2, 1, index).keys)


@given(
    order=st.permutations(list(range(12))),
    cut=st.integers(1, 11),
    seed=st.integers(-(2**70), 2**70),
    epoch=st.integers(0, 10**9),
)
def test_order_and_size_of_the_batch_do_not_matter(order: list[int], cut: int, seed: int, epoch: int) -> None:
    index = torch.arange(12) * 1_000_003
    whole = Draw.at(seed, epoch, index)
    rows = torch.tensor(order)
    shuffled = Draw.at(seed, epoch, index[rows])
    assert torch.equal(shuffled.uniform("u", 3), whole.uniform("u", 3)[rows])
    assert torch.equal(whole.select(rows).normal("n"), shuffled.normal("n"))
    parts = [Draw.at(seed, epoch, part).uniform("i", 5) for part in index.split([cut, 12 - cut])]
    assert torch.equal(torch.cat(parts), whole.uniform("i", 5))


def test_more_positions_extend_the_same_stream() -> None:
    draw = Draw.at(0, 0, torch.arange(3))
    assert torch.equal(draw.uniform("u", 2, 5)[:, 0], draw.uniform("u", 5))


def test_integers_signs_and_choices_have_their_shares() -> None:
    draw = Draw.at(0, 0, torch.arange(20_000))
    counts = integer(draw.uniform("i"), 2, 5).bincount(minlength=6)
    assert counts[:2].sum() == 0
    assert counts[2:].float().div(20_000).tolist() == pytest.approx([0.25] * 4, abs=0.015)
    assert set(sign(draw.uniform("s")).tolist()) == {-1.0, 1.0}
    assert sign(draw.uniform("s")).mean().item() == pytest.approx(0.0, abs=0.03)
    picked = (
        draw.choice("c", torch.tensor([0.0, 1.0, 0.0, 3.0, 0.0], dtype=torch.float64)).bincount(minlength=5) / 20_000
    )
    assert picked.tolist() == pytest.approx([0.0, 0.25, 0.0, 0.75, 0.0], abs=0.015)


@given(low=st.floats(0.01, 10), factor=st.floats(1, 100))
def test_ranges_are_kept(low: float, factor: float) -> None:
    uniform = Draw.at(0, 0, torch.arange(200)).uniform("u")
    for numbers in (between(uniform, (low, low * factor)), log_between(uniform, (low, low * factor))):
        assert numbers.min() >= low * (1 - 1e-5)
        assert numbers.max() <= low * factor * (1 + 1e-5)


def test_the_largest_uniform_number_is_still_the_highest_integer() -> None:
    """Rounding in float32 must not reach low + count, which would be an index out of range."""
    largest = torch.tensor([1 - 2.0**-24])
    for count in (*range(1, 300), 1000, 65_537, 10**6, 2**24):
        assert integer(largest, 0, count - 1).item() <= count - 1


def test_two_normals_of_one_hash_are_unrelated() -> None:
    numbers = Draw.at(0, 0, torch.arange(3000)).normal("n", 2)
    assert abs(correlation(numbers[:, 0], numbers[:, 1])) < 0.05
    assert abs(correlation(numbers[:, 0].square(), numbers[:, 1].square())) < 0.05
