"""The 4x4 kernel with stride 2 and padding 1 between grids of 4x4 and 2x2, without the taps that only meet padding.

Each coarse cell meets 3x3 of the 16 taps, which leaves twelve matrix products over rows of memory, without a copy. Channels come
last here: `fine` (B, 4, 4, C), `coarse` (B, 2, 2, F), `kernel` (F, 4, 4, C).
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor

from anomap.networks.layout import channels_first, channels_last


def conv4to2(fine: Tensor, kernel: Tensor) -> Tensor:
    """The convolution: fine and kernel -> coarse."""
    coarse = fine.new_zeros(fine.shape[0], 2, 2, kernel.shape[0])
    for cell, seen, taps in _products():
        coarse[:, *cell].addmm_(fine[:, *seen].flatten(1), kernel[:, *taps].flatten(1).T)
    return coarse


def conv2to4(coarse: Tensor, kernel: Tensor) -> Tensor:
    """The transposed convolution, which is `conv4to2`'s gradient towards its input: coarse and kernel -> fine."""
    fine = coarse.new_zeros(coarse.shape[0], 4, 4, kernel.shape[-1])
    for cell, seen, taps in _products():
        fine[:, *seen].flatten(1).addmm_(coarse[:, *cell], kernel[:, *taps].flatten(1))
    return fine


def kernel_gradient(fine: Tensor, coarse: Tensor) -> Tensor:
    """The gradient of both towards the kernel, from the input of one side and the gradient on the other."""
    kernel = fine.new_zeros(coarse.shape[-1], 4, 4, fine.shape[-1])
    for cell, seen, taps in _products():
        kernel[:, *taps].flatten(1).addmm_(coarse[:, *cell].T, fine[:, *seen].flatten(1))
    return kernel


def _products() -> Iterator[tuple[tuple[int, int], tuple[int, slice], tuple[int, slice]]]:
    """A coarse cell, three fine cells in a row that it sees, and the three taps that they meet."""
    for row, column, step in product((0, 1), (0, 1), (0, 1, 2)):
        seen = (row + step, slice(column, column + 3))
        yield (row, column), seen, (1 - row + step, slice(1 - column, 4 - column))


class SmallGrid(torch.autograd.Function):
    """(B, C, 4, 4) and (F, C, 4, 4) -> (B, F, 2, 2), or, transposed, (B, F, 2, 2) -> (B, C, 4, 4)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, transposed: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.transposed = transposed
        convolve = conv2to4 if transposed else conv4to2
        return channels_first(convolve(channels_last(x), channels_last(weight)))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated once more
            return *gradients(gradient, x, weight, ctx.transposed, ctx.needs_input_grad), None
        for_x = for_weight = None
        if ctx.needs_input_grad[0]:
            convolve = conv4to2 if ctx.transposed else conv2to4
            for_x = channels_first(convolve(channels_last(gradient), channels_last(weight)))
        if ctx.needs_input_grad[1]:
            fine, coarse = (gradient, x) if ctx.transposed else (x, gradient)
            for_weight = channels_first(kernel_gradient(channels_last(fine), channels_last(coarse)))
        return for_x, for_weight, None


def gradients(gradient: Tensor, x: Tensor, weight: Tensor, transposed: bool, needed: tuple[bool, ...]) -> Any:
    """PyTorch's own gradients towards input and weight, each None unless needed."""
    how = ([2, 2], [1, 1], [1, 1], transposed, [0, 0], 1)  # stride, padding, dilation; output padding, groups
    return torch.ops.aten.convolution_backward(gradient, x, weight, None, *how, [*needed[:2], False])[:2]
