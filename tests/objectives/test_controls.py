"""Controls: what their definitions say, without a floating-point copy of all images."""

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from anomap.objectives import controls
from anomap.objectives.controls import DistanceToMean, NearestNeighbour, PCAError


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


def test_the_mean_is_that_of_all_images_in_batches_of_any_size() -> None:
    images = torch.rand(23, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    control = DistanceToMean()
    control.learn_statistics(images.split(5))
    torch.testing.assert_close(control.mean, images.mean(0, keepdim=True))
    control.learn_statistics(images[:4].split(3))
    torch.testing.assert_close(control.mean, images[:4].mean(0, keepdim=True), msg="it forgets what it learned before")


@pytest.mark.parametrize("size", [300, 40])
def test_the_components_of_a_sample_hold_all_images_of_their_plane(monkeypatch, size) -> None:
    monkeypatch.setattr(controls, "PCA_IMAGES", 50)
    generator = torch.Generator().manual_seed(0)
    basis = torch.rand(3, 1, 8, 8, generator=generator)
    images = torch.tensordot(torch.rand(size, 3, generator=generator), basis, 1) / 3
    control = PCAError(components=3)
    with LargestFloat() as largest:
        control.learn_statistics(images.split(16))
    assert largest.size <= (50 + 16) * 64
    assert control.score(images).parts["distance"].max() < 1e-9
    assert control.score(torch.rand(1, 1, 8, 8, generator=generator)).parts["distance"] > 1e-3
