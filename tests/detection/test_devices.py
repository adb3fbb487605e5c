"""What a device without float64 (MPS) needs, and that a device's short cuts in precision reach no score."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from anomap.data.tiles import Tiling
from anomap.detection.precision import SWITCHES, ieee_float32
from anomap.detection.scoring import ScoringModel
from anomap.objectives.base import MethodOutput, Objective
from tests import tiny

DEVICE = torch.device("meta")  # stands for MPS: here its tensors hold values


class OnDevice(Tensor):
    """A tensor whose values lie on the CPU and which says that they do not."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnDevice":
        if held.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), dtype=held.dtype, device=DEVICE
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatch(func, args, kwargs or {}, on_device=True)


def dispatch(func: Any, args: Any, kwargs: dict[str, Any], on_device: bool) -> Any:
    """Compute on the CPU, and wrap what the device would hold."""
    if "device" in kwargs and kwargs["device"] is not None:
        on_device = torch.device(kwargs["device"]) == DEVICE
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if func is torch.ops.aten.cat.default and len({isinstance(part, OnDevice) for part in args[0]}) > 1:
        raise RuntimeError("Expected all tensors to be on the same device")
    args, kwargs = tree_map_only(OnDevice, lambda tensor: tensor.held, (args, kwargs))
    return tree_map_only(Tensor, OnDevice, func(*args, **kwargs)) if on_device else func(*args, **kwargs)


class WithoutFloat64(TorchDispatchMode):
    """Moves to `DEVICE` give `OnDevice` tensors."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = [*args, *(kwargs or {}).values()]
        return dispatch(func, args, kwargs or {}, any(isinstance(value, OnDevice) for value in found))


@pytest.fixture
def without_float64() -> Iterator[None]:
    """Within it `DEVICE` computes, but not in double precision."""
    with WithoutFloat64():
        yield


@pytest.mark.usefixtures("without_float64")
def test_the_stand_in_refuses_what_mps_refuses() -> None:
    here = torch.rand(3)
    there = here.to(DEVICE)
    assert isinstance(there, OnDevice)
    assert torch.equal((there + 1).cpu(), here + 1)
    for wrong in (lambda: there.double(), lambda: here.double().to(DEVICE)):
        with pytest.raises(TypeError, match="float64"):
            wrong()


class Convolution(Objective):
    """Two parts, of one convolution's output, which is the map."""

    part_names = ("mean", "spread")

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Conv2d(1, 8, 3, padding=1)

    def score(self, images: Tensor) -> MethodOutput:
        """Mean and deviation of the map."""
        made = self.net(images).square().mean(1, keepdim=True)
        flat = made.flatten(1)
        return MethodOutput({"mean": flat.mean(1), "spread": 100 * flat.std(1)}, made)


def scored(device: str, batches: list[Tensor], images: np.ndarray) -> tuple[ScoringModel, np.ndarray, np.ndarray]:
    """A model of two parts that was moved, calibrated there, and has scored."""
    model = ScoringModel(Convolution(), (tiny.SIZE, tiny.SIZE))
    model.place(device)
    model.calibrate({"image": batch.to(device)} for batch in batches)
    model.set_threshold({"strategy": "quantile", "quantile": 0.8})
    return model, *model.run(images)


def test_a_detector_works_on_a_device_without_float64() -> None:
    batches = [tiny.textures(4, seed=1), tiny.textures(3, seed=2)]
    images = (tiny.textures(3, seed=3) * 255).to(torch.uint8).numpy()
    expected, *wanted = scored("cpu", batches, images)
    with WithoutFloat64():
        model, *found = scored(DEVICE.type, batches, images)
        test = model.score_all(
            [{"image": torch.from_numpy(images).to(DEVICE) / 255, "label": torch.zeros(3, dtype=torch.long)}]
        )
    for there, here in zip((*found, test.scores), (*wanted, wanted[0]), strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-5)
    assert isinstance(next(model.objective.parameters()).data, OnDevice)
    assert (model.threshold, model.pixel_threshold) == (expected.threshold, expected.pixel_threshold)


def test_photographs_are_tiled_on_a_device_without_float64() -> None:
    """Their bytes and maps stay on the CPU; only tiles go to the device."""
    photographs = [
        (tiny.textures(1, size=size, seed=n) * 255).to(torch.uint8) for n, size in enumerate([(40, 70), (33, 20)])
    ]

    def tiled(device: str) -> tuple[ScoringModel, list[np.ndarray]]:
        model = ScoringModel(Convolution(), (32, 32), Tiling(32))
        model.place(device)
        model.calibrate({"image": photograph} for photograph in photographs)
        model.set_threshold({"strategy": "quantile", "quantile": 0.8})
        return model, [values for photograph in photographs for values in model.run(photograph.numpy())]

    expected, wanted = tiled("cpu")
    with WithoutFloat64():
        model, found = tiled(DEVICE.type)
        test = model.score_all(
            {"image": photograph, "label": torch.zeros(1, dtype=torch.long)} for photograph in photographs
        )
    for there, here in zip(found, wanted, strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-5)
    np.testing.assert_allclose(test.scores, np.concatenate(wanted[::2]), rtol=1e-5)
    assert isinstance(next(model.objective.parameters()).data, OnDevice)
    assert (model.threshold, model.pixel_threshold) == (expected.threshold, expected.pixel_threshold)


@pytest.mark.usefixtures("without_float64")
def test_a_threshold_stays_exact_wherever_the_model_goes() -> None:
    model = ScoringModel(tiny.objective("control_mean"), (tiny.SIZE, tiny.SIZE))
    model.calibration.threshold.fill_(0.1)
    model.place(DEVICE.type)
    model.half()
    assert model.threshold == float(model.state_dict()["calibration.threshold"]) == 0.1


# --- precision ---


class Precisions(Objective):
    """Notes the precision that it is scored in."""

    part_names = ("mean",)

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def score(self, images: Tensor) -> Any:
        self.seen += [switch.fp32_precision for switch in SWITCHES]
        return MethodOutput({"mean": images.mean((1, 2, 3))}, images)


def test_scores_and_thresholds_know_no_tf32() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        objective = Precisions()
        model = ScoringModel(objective, (8, 8))
        model.calibrate([{"image": torch.rand(4, 1, 8, 8)}])
        model.run(np.zeros((2, 1, 8, 8), np.uint8))
        assert set(objective.seen) == {"ieee"}
        assert torch.get_float32_matmul_precision() == "high"  # the caller's, as it was
        assert SWITCHES[0].fp32_precision == "tf32"
        with pytest.raises(ZeroDivisionError), ieee_float32():
            _ = 1 / 0
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_scores_as_the_cpu_does() -> None:
    """Within a thousandth of the spread of normal scores; cuDNN's own TF32 misses that by ten times."""
    batches = [tiny.textures(16, seed=1)]
    images = (tiny.textures(8, seed=3) * 255).to(torch.uint8).numpy()
    (expected, wanted, _), (_, found, _) = scored("cpu", batches, images), scored("cuda", batches, images)
    assert np.abs(found - wanted).max() < 1e-3 * float(expected.calibration.scores.std())
