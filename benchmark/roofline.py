"""The machine's own limit: the FLOPs of a computation, and how many of them a second could hold."""

import math
from collections.abc import Callable, Mapping

import torch
from torch.nn import functional as F

from anomap.detection.operations import flops
from benchmark.plan import Plan
from benchmark.timing import Case, interleaved, repeated

GIGA = 1e9
_MATRICES = (1024, 2048)
# batch, channels, side: as the family's inner layers have them, where convolutions reach most
_CONVOLUTIONS = ((64, 128, 16), (64, 256, 16), (32, 128, 32))


def keys(plan: Plan) -> list[str]:
    """What `measure` says."""
    del plan
    return ["peak_gflops", "peak_matmul_gflops", "peak_convolution_gflops"]


def measure(plan: Plan) -> dict[str, float]:
    """Peak GFLOP/s in float32 with the threads that are set: the best of a few matrix products and convolutions."""
    work = _work()
    best = _gflops(work, plan.rounds)
    matmul, convolution = (
        max(best[name] for name in work if name.startswith(kind)) for kind in ("matmul", "convolution")
    )
    return {
        "peak_gflops": max(matmul, convolution),
        "peak_matmul_gflops": matmul,
        "peak_convolution_gflops": convolution,
    }


def limit() -> Case:
    """The machine's limit as a case to time beside others, in GFLOP: half a second of what reaches most."""
    work = _work()
    best = _gflops(work, rounds=3)
    fastest = max(best, key=lambda name: best[name])
    call, counted = work[fastest], flops(work[fastest]) / GIGA
    times = math.ceil(0.5 * best[fastest] / counted)
    again = repeated(call, times)
    return lambda: again() * counted


def _work() -> dict[str, Callable[[], object]]:
    matrices = {f"matmul {n}": _matmul(n) for n in _MATRICES}
    return {**matrices, **{f"convolution {shape}": _convolution(*shape) for shape in _CONVOLUTIONS}}


def _gflops(work: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    rates = interleaved({name: repeated(call, 3) for name, call in work.items()}, rounds)
    return {name: rates.median(name) * flops(call) / GIGA for name, call in work.items()}


def _matmul(n: int) -> Callable[[], object]:
    a, b, out = torch.rand(n, n), torch.rand(n, n), torch.empty(n, n)
    return lambda: torch.mm(a, b, out=out)


def _convolution(batch: int, channels: int, side: int) -> Callable[[], object]:
    x = torch.rand(batch, channels, side, side).to(memory_format=torch.channels_last)
    weight = torch.rand(channels, channels, 3, 3).to(memory_format=torch.channels_last)
    return lambda: F.conv2d(x, weight, padding=1)
