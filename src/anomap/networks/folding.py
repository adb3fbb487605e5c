"""A frozen timm network with fewer passes over memory: the same, with BatchNorms folded into the convolutions before them.

On the CPU, oneDNN also computes a ReLU6 together with the convolution before it.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_eval

FUSED = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
TOLERANCE = 1e-3  # of the largest value: far above rounding, far below what a wrong fold would make


@torch.no_grad()
def folded(network: nn.Module, example: Tensor) -> nn.Module:
    """A folded copy, or the network itself if there is nothing to fold or the copy would not compute the same.

    A BatchNorm is folded where its input is a convolution's output, seen in a pass of the example. What else happens to that
    output is unknown, so the results are compared, on the CPU in full precision. The network, in evaluation mode, gives a list.
    """
    device, example = example.device, example.cpu()
    with torch.autocast(device.type, enabled=False), torch.autocast("cpu", enabled=False):
        plain = copy.deepcopy(network).requires_grad_(False).cpu()
        expected = plain(example)
        for activations in (True, False) if FUSED else (False,):
            quick = copy.deepcopy(plain)
            if _fold(quick, example, activations) and _same(quick(example), expected):
                return quick.to(device)
    return network


def _same(found: list[Tensor], expected: list[Tensor]) -> bool:
    return all(
        bool(torch.isfinite(now).all()) and bool((now - before).abs().max() <= TOLERANCE * before.abs().max())
        for now, before in zip(found, expected, strict=True)
    )


def _fold(network: nn.Module, example: Tensor, activations: bool) -> bool:
    """Fold in place, `activations` too; whether there was anything to do."""
    names = {module: name for name, module in network.named_modules()}
    pairs: list[tuple[Any, Any]] = _pairs(network, example)
    for convolution, norm in pairs:
        rest: Any = (norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else ()
        network.set_submodule(names[convolution], fuse_conv_bn_eval(convolution, norm))  # pyright: ignore[reportArgumentType]
        network.set_submodule(names[norm], nn.Sequential(*rest))
    padded: dict[str, Any] = {name: module for name, module in network.named_modules() if _pads_by_copy(module)}
    for name, convolution in padded.items():
        network.set_submodule(name, HalvingSame(convolution))
    names = {module: name for name, module in network.named_modules()}
    activated = _pairs(network, example, _is_plain, lambda module: type(module) is nn.ReLU6) if activations else []
    for convolution, activation in activated:
        network.set_submodule(names[convolution], WithReLU6(convolution))
        network.set_submodule(names[activation], nn.Identity())
    return bool(pairs or padded or activated)


def _pairs(
    network: nn.Module,
    example: Tensor,
    first: Callable[[nn.Module], bool] = lambda module: isinstance(module, nn.Conv2d),
    second: Callable[[Any], bool] = lambda module: (
        type(module) in (nn.BatchNorm2d, BatchNormAct2d) and module.affine and module.running_var is not None
    ),
) -> list[tuple[Any, Any]]:
    """Modules, as convolutions, each with the one that takes its output, as a BatchNorm of running statistics."""
    found: list[tuple[nn.Module, nn.Module]] = []
    last: list[tuple[nn.Module, Tensor]] = []  # module and its output

    def remember(module: nn.Module, _: object, output: Tensor) -> None:
        last[:] = [(module, output)]

    def look(module: Any, inputs: tuple[Tensor, ...]) -> None:
        if last and inputs[0] is last[0][1]:
            found.append((last[0][0], module))

    hooks = []
    for module in network.modules():
        if first(module):
            hooks.append(module.register_forward_hook(remember))
        elif second(module):
            hooks.append(module.register_forward_pre_hook(look))
    network(example)
    for hook in hooks:
        hook.remove()
    return found


class HalvingSame(nn.Module):
    """timm's `Conv2dSame` (TensorFlow's padding) with an odd square kernel and stride 2, without a padded copy of even inputs.

    It pads one cell less above and on the left: equal padding does the same for a kernel with one more tap there, zero.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution  # for odd sides
        weight = F.pad(convolution.weight, (1, 0, 1, 0)).contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, F, ⌈H / 2⌉, ⌈W / 2⌉)."""
        own = self.convolution
        if x.shape[-2] % 2 or x.shape[-1] % 2:
            return own(x)
        return F.conv2d(x, self.weight, own.bias, stride=2, padding=own.kernel_size[0] // 2, groups=own.groups)


class WithReLU6(nn.Module):
    """A convolution and the ReLU6 that follows, in one pass over memory where oneDNN can."""

    def __init__(self, convolution: "nn.Conv2d | HalvingSame") -> None:
        super().__init__()
        self.convolution = convolution
        halving = isinstance(convolution, HalvingSame)
        own = convolution.convolution if halving else convolution
        self.halving, self.bias = halving, own.bias
        weight = convolution.weight.contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight, requires_grad=False)
        padding = (own.kernel_size[0] // 2,) * 2 if halving else own.padding
        self.arguments = padding, own.stride, own.dilation, own.groups

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, F, ⌈H / stride⌉, ⌈W / stride⌉), in [0, 6]."""
        odd = self.halving and (x.shape[-2] % 2 or x.shape[-1] % 2)
        if odd or x.device.type != "cpu" or x.dtype != torch.float32:
            return self.convolution(x).clamp_(0.0, 6.0)
        fused = torch.ops.mkldnn._convolution_pointwise
        return fused(x, self.weight, self.bias, *self.arguments, "hardtanh", [0.0, 6.0], "")


def _is_plain(module: nn.Module) -> bool:
    """Whether it is a convolution that oneDNN computes as torch does."""
    ordinary = type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return ordinary or isinstance(module, HalvingSame)


def _pads_by_copy(module: Any) -> bool:
    if type(module) is not Conv2dSame or module.stride != (2, 2) or module.dilation != (1, 1):
        return False
    kernel: Any = module.kernel_size
    return kernel[0] == kernel[1] and kernel[0] % 2 == 1
