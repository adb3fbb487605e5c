"""PyTorch's two convolution layers, computed as matrix products on a CPU where its own kernels are slow.

Weights, names and, up to rounding, results are those of `nn.Conv2d` and `nn.ConvTranspose2d`. The way differs only where it was
measured to be faster (docs/performance.md):

- A kernel as large as the grid is one product. So is the family's 4x4 kernel with stride 2 between 2x2 and one cell, without the
  12 of 16 taps that meet only padding; between 4x4 and 2x2 these are 7 (`small_grids`).
- Few channels fill little of the processor's vectors: a transposed convolution to them, or a convolution's gradient towards them.

Other devices, exported graphs, autocast, groups, dilation and other padding use PyTorch's kernels. No `torch.func`, no TorchScript.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomap.networks.layout import channels_last
from anomap.networks.small_grids import SmallGrid, gradients

FEW_CHANNELS = 4


class Convolution(nn.Conv2d):
    """`nn.Conv2d`: (B, C, H, W) -> (B, F, h, w)."""

    def forward(self, input: Tensor) -> Tensor:
        grid = tuple(input.shape[-2:])
        if pays(input) and _is_plain(self):
            if self.padding == (0, 0) and self.kernel_size == grid:
                return _biased(whole_grid(input, channels_last(self.weight)), self.bias)
            if _is_4x4_by_2(self):
                if grid == (4, 4):
                    return _biased(SmallGrid.apply(input, self.weight, False), self.bias)
                if grid == (2, 2):
                    return _biased(whole_grid(input, _inner_taps(self.weight)), self.bias)
                if self.in_channels <= FEW_CHANNELS and input.requires_grad and grid[0] % 2 == grid[1] % 2 == 0:
                    return _biased(_FewChannels.apply(input, self.weight, False), self.bias)
        return super().forward(input)


class TransposedConvolution(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d`: (B, C, h, w) -> (B, F, H, W)."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if output_size is None and pays(input) and _is_plain(self):
            if input.shape[-2:] == (1, 1) and self.padding == (0, 0):
                return _biased(from_one_cell(input, channels_last(self.weight)), self.bias)
            if _is_4x4_by_2(self):
                return double(input, self.weight, self.bias)
        return super().forward(input, output_size)


def double(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Transposed convolution, 4x4 with stride 2 and padding 1: (B, C, H, W), (C, F, 4, 4), (F,) -> (B, F, 2H, 2W)."""
    if pays(x):
        if x.shape[-2:] == (1, 1):
            return _biased(from_one_cell(x, _inner_taps(weight)), bias)
        if x.shape[-2:] == (2, 2):
            return _biased(SmallGrid.apply(x, weight, True), bias)
        if weight.shape[1] <= FEW_CHANNELS:
            return _biased(_FewChannels.apply(x, weight, True), bias)
    return F.conv_transpose2d(x, weight, bias, stride=2, padding=1)


def whole_grid(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolution with a kernel as large as the grid: (B, C, H, W) and (F, H, W, C) -> (B, F, 1, 1)."""
    return (channels_last(x).flatten(1) @ kernel.flatten(1).T)[:, :, None, None]


def from_one_cell(x: Tensor, kernel: Tensor) -> Tensor:
    """Transposed convolution of a single cell: (B, C, 1, 1) and (C, H, W, F) -> (B, F, H, W)."""
    product = x.flatten(1) @ kernel.flatten(1)
    return product.view(x.shape[0], *kernel.shape[1:]).permute(0, 3, 1, 2)


def overlap_add(x: Tensor, weight: Tensor) -> Tensor:
    """`double` without bias, as one product whose 4x4 patches are added where they overlap; channels-last in memory.

    Output row 2Y gets tap 1 of input row Y and tap 3 of row Y - 1; row 2Y + 1 gets tap 2 of row Y and tap 0 of row Y + 1.
    Columns alike.
    """
    batch, inputs, height, width = x.shape
    outputs = weight.shape[1]
    patches = channels_last(x).reshape(-1, inputs) @ channels_last(weight).reshape(inputs, -1)
    patches = patches.view(batch, height, width, 4, 4, outputs)
    rows = patches[:, :, :, 1:3].clone()  # (B, H, W, 2 rows, 4 columns, F)
    rows[:, 1:, :, 0] += patches[:, :-1, :, 3]
    rows[:, :-1, :, 1] += patches[:, 1:, :, 0]
    cells = rows[:, :, :, :, 1:3].clone()  # (B, H, W, 2, 2, F)
    cells[:, :, 1:, :, 0] += rows[:, :, :-1, :, 3]
    cells[:, :, :-1, :, 1] += rows[:, :, 1:, :, 0]
    return cells.transpose(2, 3).reshape(batch, 2 * height, 2 * width, outputs).permute(0, 3, 1, 2)


class _FewChannels(torch.autograd.Function):
    """`overlap_add` towards the few channels, forward if transposed and else backward; PyTorch's own kernels for the rest."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, transposed: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.transposed = transposed
        return overlap_add(x, weight) if transposed else F.conv2d(x, weight, stride=2, padding=1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        to_x, to_weight, _ = ctx.needs_input_grad
        for_x, for_weight = gradients(gradient, x, weight, ctx.transposed, (to_x and ctx.transposed, to_weight))
        if to_x and not ctx.transposed:
            for_x = overlap_add(gradient, weight)
        return for_x, for_weight, None


def _inner_taps(weight: Tensor) -> Tensor:
    """Of a 4x4 kernel with padding 1 the taps that a single 2x2 grid meets: (a, b, 4, 4) -> (a, 2, 2, b)."""
    return channels_last(weight)[:, 1:3, 1:3]


def _is_plain(layer: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    unpadded = layer.padding_mode == "zeros" and tuple(layer.output_padding) == (0, 0)
    return unpadded and layer.groups == 1 and layer.dilation == (1, 1)


def _is_4x4_by_2(layer: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    return layer.kernel_size == (4, 4) and layer.stride == (2, 2) and layer.padding == (1, 1)


def _biased(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias[:, None, None]


def pays(x: Tensor) -> bool:
    """Whether the faster way may be taken: a batch on a CPU, in float32, outside autocast and not being exported."""
    fast = x.dim() == 4 and x.device.type == "cpu" and x.dtype == torch.float32
    return fast and not torch.compiler.is_exporting() and not torch.is_autocast_enabled("cpu")
