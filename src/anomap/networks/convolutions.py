"""PyTorch's two convolution layers, computed on a CPU as matrix products where its kernels are far from the machine's limit.

Weights, results and names are those of `nn.Conv2d` and `nn.ConvTranspose2d`. Only the way differs, and only where it was measured
to be faster (docs/performance.md):

- A kernel as large as the grid is one product. So is the family's 4x4 kernel with stride 2 at the bottom of a U-Net, from a grid
  of 2x2 to one cell or back: 12 of its 16 taps meet nothing but padding, and are left out.
- Between 4x4 and 2x2 it meets padding with 7 of 16 taps, and its weights are larger than the images (`small_grids`).
- Few channels on the image's side fill a small part of the processor's vectors: a transposed convolution to them, and a
  convolution's gradient towards them, which is the same operation.

Other devices, exported graphs, automatic mixed precision, and layers with groups, dilation or another padding get PyTorch's own.
`torch.func` and TorchScript do not go through.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomap.networks.small_grids import Double, Halve, gradients, to_nhwc

FEW_CHANNELS = 4


class Convolution(nn.Conv2d):
    """`nn.Conv2d`: (B, C, H, W) -> (B, F, h, w)."""

    def forward(self, input: Tensor) -> Tensor:
        """The same result as `nn.Conv2d` up to rounding."""
        if pays(input) and _is_plain(self):
            grid = tuple(input.shape[-2:])
            if self.padding == (0, 0) and self.kernel_size == grid:
                return _biased(whole_grid(input, to_nhwc(self.weight)), self.bias)
            if _halves(self):
                if grid == (4, 4):
                    return _biased(Halve.apply(input, self.weight), self.bias)
                if grid == (2, 2):
                    return _biased(whole_grid(input, _inner_taps(self.weight)), self.bias)
                even = grid[0] % 2 == grid[1] % 2 == 0
                if self.in_channels <= FEW_CHANNELS and input.requires_grad and even:
                    return _biased(_ToManyChannels.apply(input, self.weight), self.bias)
        return super().forward(input)


class TransposedConvolution(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d`: (B, C, h, w) -> (B, F, H, W)."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """The same result as `nn.ConvTranspose2d` up to rounding."""
        if output_size is None and pays(input) and _is_plain(self):
            grid = tuple(input.shape[-2:])
            if grid == (1, 1) and self.padding == (0, 0):
                return _biased(from_one_cell(input, to_nhwc(self.weight)), self.bias)
            if _halves(self):
                return double(input, self.weight, self.bias)
        return super().forward(input, output_size)


def double(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Twice the size by a transposed convolution, 4x4 with stride 2 and padding 1: (B, C, H, W) -> (B, F, 2H, 2W).

    Args:
        x: (B, C, H, W).
        weight: (C, F, 4, 4).
        bias: (F,) or None.
    """
    if pays(x):
        grid = tuple(x.shape[-2:])
        if grid == (1, 1):
            return _biased(from_one_cell(x, _inner_taps(weight)), bias)
        if grid == (2, 2):
            return _biased(Double.apply(x, weight), bias)
        if weight.shape[1] <= FEW_CHANNELS:
            return _biased(_ToFewChannels.apply(x, weight), bias)
    return F.conv_transpose2d(x, weight, bias, stride=2, padding=1)


def whole_grid(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolution with a kernel as large as the grid: (B, C, H, W) and (F, H, W, C) -> (B, F, 1, 1)."""
    return (to_nhwc(x).flatten(1) @ kernel.flatten(1).T)[:, :, None, None]


def from_one_cell(x: Tensor, kernel: Tensor) -> Tensor:
    """Transposed convolution of a single cell: (B, C, 1, 1) and (C, H, W, F) -> (B, F, H, W)."""
    product = x.flatten(1) @ kernel.flatten(1)
    return product.view(x.shape[0], *kernel.shape[1:]).permute(0, 3, 1, 2)


def overlap_add(x: Tensor, weight: Tensor) -> Tensor:
    """Transposed convolution, 4x4 with stride 2 and padding 1, as one product whose 4x4 patches are laid over each other.

    Output row 2Y gets tap 1 of input row Y and tap 3 of row Y - 1; row 2Y + 1 gets tap 2 of row Y and tap 0 of row Y + 1.
    Columns alike.

    Args:
        x: (B, C, H, W).
        weight: (C, F, 4, 4).

    Returns:
        (B, F, 2H, 2W), channels-last.
    """
    batch, inputs, height, width = x.shape
    outputs = weight.shape[1]
    patches = to_nhwc(x).reshape(-1, inputs) @ to_nhwc(weight).reshape(inputs, -1)
    patches = patches.view(batch, height, width, 4, 4, outputs)
    rows = patches[:, :, :, 1:3].clone()  # (B, H, W, 2 rows, 4 columns, F)
    rows[:, 1:, :, 0] += patches[:, :-1, :, 3]
    rows[:, :-1, :, 1] += patches[:, 1:, :, 0]
    cells = rows[:, :, :, :, 1:3].clone()  # (B, H, W, 2, 2, F)
    cells[:, :, 1:, :, 0] += rows[:, :, :-1, :, 3]
    cells[:, :, :-1, :, 1] += rows[:, :, 1:, :, 0]
    return cells.transpose(2, 3).reshape(batch, 2 * height, 2 * width, outputs).permute(0, 3, 1, 2)


class _ToFewChannels(torch.autograd.Function):
    """`overlap_add` forward; PyTorch's own kernels backward, which are fast in that direction."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return overlap_add(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        return gradients(gradient, x, weight, True, ctx.needs_input_grad)


class _ToManyChannels(torch.autograd.Function):
    """PyTorch's own kernel forward; the gradient towards the few channels by `overlap_add`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, stride=2, padding=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        for_weight = gradients(gradient, x, weight, False, (False, ctx.needs_input_grad[1]))[1]
        return overlap_add(gradient, weight) if ctx.needs_input_grad[0] else None, for_weight


def _inner_taps(weight: Tensor) -> Tensor:
    """Of a 4x4 kernel with padding 1 the taps that a single 2x2 grid meets: (a, b, 4, 4) -> (a, 2, 2, b)."""
    return to_nhwc(weight)[:, 1:3, 1:3]


def _is_plain(layer: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    whole = layer.groups == 1 and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
    return whole and tuple(layer.output_padding) == (0, 0)


def _halves(layer: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    return layer.kernel_size == (4, 4) and layer.stride == (2, 2) and layer.padding == (1, 1)


def _biased(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias[:, None, None]


def pays(x: Tensor) -> bool:
    """Whether the other way may be taken: for a batch on a CPU, in full precision, and not in a graph that is to be exported."""
    if x.dim() != 4 or x.device.type != "cpu" or x.dtype != torch.float32:
        return False
    return not torch.compiler.is_exporting() and not torch.is_autocast_enabled("cpu")
