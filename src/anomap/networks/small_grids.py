"""The 4x4 kernel with stride 2 and padding 1 between a grid of 4x4 and one of 2x2, without the taps that only meet padding.

Of its 16 taps each of the four cells meets 3x3. What is left is a sum of twelve matrix products of slices that are rows of memory
in channels-last order, so nothing is copied. Here arrays have their channels last: `fine` is (B, 4, 4, C), `coarse` (B, 2, 2, F),
and the `kernel` (F, 4, 4, C).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


def halved(fine: Tensor, kernel: Tensor) -> Tensor:
    """The convolution: fine and kernel -> coarse."""
    coarse = fine.new_zeros(fine.shape[0], 2, 2, kernel.shape[0])
    for cell, seen, taps in _products():
        coarse[:, *cell].addmm_(fine[:, *seen].flatten(1), kernel[:, *taps].flatten(1).T)
    return coarse


def doubled(coarse: Tensor, kernel: Tensor) -> Tensor:
    """The transposed convolution, which is the gradient of `halved` towards its input: coarse and kernel -> fine."""
    fine = coarse.new_zeros(coarse.shape[0], 4, 4, kernel.shape[-1])
    for cell, seen, taps in _products():
        fine[:, *seen].flatten(1).addmm_(coarse[:, *cell], kernel[:, *taps].flatten(1))
    return fine


def kernel_gradient(fine: Tensor, coarse: Tensor) -> Tensor:
    """The gradient of both towards the kernel, from what is on the fine and on the coarse side."""
    kernel = fine.new_zeros(coarse.shape[-1], 4, 4, fine.shape[-1])
    for cell, seen, taps in _products():
        kernel[:, *taps].flatten(1).addmm_(coarse[:, *cell].T, fine[:, *seen].flatten(1))
    return kernel


def _products() -> Iterator[tuple[tuple[int, int], tuple[int, slice], tuple[int, slice]]]:
    """A coarse cell, three fine cells in a row that it sees, and the three taps that they meet."""
    for row in (0, 1):
        for column in (0, 1):
            for step in (0, 1, 2):
                yield (
                    (row, column),
                    (row + step, slice(column, column + 3)),
                    (1 - row + step, slice(1 - column, 4 - column)),
                )


class Halve(torch.autograd.Function):
    """`halved` for (B, C, 4, 4) and (F, C, 4, 4) -> (B, F, 2, 2)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return to_nchw(halved(to_nhwc(x), to_nhwc(weight)))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated once more
            return gradients(gradient, x, weight, False, ctx.needs_input_grad)
        for_x = to_nchw(doubled(to_nhwc(gradient), to_nhwc(weight))) if ctx.needs_input_grad[0] else None
        return for_x, to_nchw(kernel_gradient(to_nhwc(x), to_nhwc(gradient))) if ctx.needs_input_grad[1] else None


class Double(torch.autograd.Function):
    """`doubled` for (B, F, 2, 2) and (F, C, 4, 4) -> (B, C, 4, 4)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return to_nchw(doubled(to_nhwc(x), to_nhwc(weight)))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            return gradients(gradient, x, weight, True, ctx.needs_input_grad)
        for_x = to_nchw(halved(to_nhwc(gradient), to_nhwc(weight))) if ctx.needs_input_grad[0] else None
        return for_x, to_nchw(kernel_gradient(to_nhwc(gradient), to_nhwc(x))) if ctx.needs_input_grad[1] else None


def gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, transposed: bool, needed: tuple[bool, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """PyTorch's own, of a convolution, 4x4 with stride 2 and padding 1, towards input and weights."""
    found = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [2, 2], [1, 1], [1, 1], transposed, [0, 0], 1, [*needed[:2], False]
    )
    return found[0], found[1]


def to_nhwc(x: Tensor) -> Tensor:
    """(a, b, H, W) -> (a, H, W, b), which is no copy of what is channels-last, and whose gradient is channels-last too."""
    return x.permute(0, 2, 3, 1)


def to_nchw(x: Tensor) -> Tensor:
    """(a, H, W, b) -> (a, b, H, W), channels-last in memory."""
    return x.permute(0, 3, 1, 2)
