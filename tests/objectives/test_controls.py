"""The nearest neighbour in pixels: the same as by brute force, without a floating-point copy of its memory."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from anomap.objectives import controls
from anomap.objectives.controls import NearestNeighbour


class LargestFloat(TorchDispatchMode):
    """The most elements of a floating-point tensor that any operation returns."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor) and value.is_floating_point():
                self.size = max(self.size, value.numel())
        return result


def test_nearest_neighbour_is_that_of_brute_force_a_slice_of_its_memory_at_a_time(monkeypatch) -> None:
    monkeypatch.setattr(controls, "BANK_SLICE", 7)
    generator = torch.Generator().manual_seed(0)
    bank, images = torch.rand(40, 1, 8, 8, generator=generator), torch.rand(3, 1, 8, 8, generator=generator)
    images[0] = bank[31]
    control = NearestNeighbour()
    control.learn_statistics(bank.split(16))
    with LargestFloat() as largest:
        found = control.score(images).parts["distance"]
    stored = (bank * 255).round() / 255
    expected = (images[:, None] - stored[None]).square().mean((2, 3, 4)).min(1).values
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert largest.size <= 7 * 64
