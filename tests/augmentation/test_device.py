"""On a device nothing waits: no float64 (MPS has none), no number read back, and three transfers for a whole batch.

The device is torch's meta device. It has shapes without values: whatever reads a value, and would wait for a GPU, fails.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from anomap.augmentation.random import Draw

from .test_hard import preset
from .textures import TrainingImages, textured

META = torch.device("meta")


class Watch(TorchDispatchMode):
    """Notes what crosses to the device, and every float64 tensor on it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Tensor] = []
        self.doubles: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        given = [part for part in tree_flatten((args, kwargs))[0] if isinstance(part, Tensor)]
        made = [part for part in tree_flatten(result)[0] if isinstance(part, Tensor)]
        if name in ("_to_copy", "copy_") and made[0].device == META:
            self.sent += [part for part in given if part.device.type == "cpu"]
        if any(part.device == META and part.dtype == torch.float64 for part in made):
            self.doubles.append(name)
        return result


class Lists(TorchFunctionMode):
    """Notes the transfers that a dispatch mode does not see: `torch.tensor([...], device=...)`."""

    def __init__(self, sent: list[Tensor]) -> None:
        super().__init__()
        self.sent = sent

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.tensor and result.device == META:
            self.sent.append(result)
        return result


def watched(name: str, count: int, size: int, **overrides: Any) -> Watch:
    donors = TrainingImages(textured(7, 3, size, size, seed=5))
    augmentation = preset(name, **overrides)
    images = torch.empty(count, 3, size, size, device=META)
    with Watch() as watch, Lists(watch.sent):
        augmented, mask = augmentation(images, torch.arange(count), 3, donors)
    assert augmented.device == mask.device == META
    return watch


@pytest.mark.parametrize("size", [32, 64])
def test_hard_augmentation_never_waits_for_the_device(size: int) -> None:
    watch = watched("hard", 64, size)
    assert watch.doubles == []
    # What was decided on the CPU, the rows of the branches, and the donors that were drawn, as uint8.
    assert len(watch.sent) == 3
    assert sorted(str(part.dtype) for part in watch.sent) == ["torch.int64", "torch.int64", "torch.uint8"]


def test_only_the_donors_that_are_needed_cross() -> None:
    drawn = preset("hard").describe(torch.arange(64), 3)
    needed = sum(words.count("x paste_image") for words in drawn)
    (donors,) = (part for part in watched("hard", 64, 32).sent if part.dtype == torch.uint8)
    assert len(donors) == needed
    assert needed > 0


@pytest.mark.thorough
@pytest.mark.parametrize("overrides", [{}, {"probability": 0.5}, {"only_fills": ["blur"]}, {"only_regions": ["crack"]}])
def test_a_larger_batch_needs_no_more_transfers(overrides: dict[str, Any]) -> None:
    small, large = (watched("hard", count, 32, **overrides) for count in (48, 192))
    assert len(small.sent) == len(large.sent) <= 3
    assert large.doubles == []


@pytest.mark.parametrize(("name", "transfers"), [("cutout", 1), ("none", 0)])
def test_the_other_presets_neither(name: str, transfers: int) -> None:
    watch = watched(name, 8, 32)
    assert len(watch.sent) == transfers
    assert watch.doubles == []


def test_the_watch_sees_what_it_is_for() -> None:
    """Without this the tests above would pass on a watch that is blind."""
    with Watch() as watch, Lists(watch.sent):
        there = torch.arange(3).to(META)
        torch.tensor([1, 2], device=META)
        torch.empty(2, device=META).copy_(torch.ones(2))
        there.double()
        torch.ones(2, device=META).to(torch.float64)
    assert len(watch.sent) == 3
    assert len(watch.doubles) == 2
    for read in (lambda: there.cpu(), lambda: there.sum().item(), lambda: there.nonzero(), lambda: bool(there[0] > 0)):
        with pytest.raises((RuntimeError, NotImplementedError)):
            read()


def test_keys_on_the_cpu_spare_the_device() -> None:
    keys = Draw.at(0, 0, torch.arange(3)).keys
    assert torch.equal(Draw(keys.to(META), keys).on_cpu.uniform("u"), Draw(keys).uniform("u"))
