"""A frozen network with its BatchNorms folded into the convolutions before them: the same result with fewer passes over memory."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import fuse_conv_bn_weights

TOLERANCE = 1e-3  # of the largest value: far above rounding, far below what a wrong fold would make


@torch.no_grad()
def folded(network: nn.Module, example: Tensor) -> nn.Module:
    """A folded copy, or the network itself if there is nothing to fold or the copy would not compute the same.

    A BatchNorm is folded where its input is a convolution's output, seen in a pass of the example. What else the network does
    with that output is not known, so the copy is compared with the network: on the CPU and in full precision, so that
    neither device nor autocast decides.

    Args:
        network: in evaluation mode, with a list of tensors as its result.
        example: an input (B, C, H, W).
    """
    device, example = example.device, example.cpu()
    with torch.autocast(device.type, enabled=False), torch.autocast("cpu", enabled=False):
        plain = copy.deepcopy(network).requires_grad_(False).cpu()
        quick = copy.deepcopy(plain)
        if not _fold(quick, example):
            return network
        same = all(
            bool(torch.isfinite(now).all()) and bool((now - before).abs().max() <= TOLERANCE * before.abs().max())
            for now, before in zip(quick(example), plain(example), strict=True)
        )
    return quick.to(device) if same else network


def _fold(network: nn.Module, example: Tensor) -> bool:
    """Fold in place; whether there was anything to do."""
    names = {module: name for name, module in network.named_modules()}
    pairs = _pairs(network, example)
    for convolution, norm in pairs:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            *(
                convolution.weight,
                convolution.bias,
                norm.running_mean,
                norm.running_var,
                norm.eps,
                norm.weight,
                norm.bias,
            )
        )
        network.set_submodule(names[norm], _after(norm))
    padded = [
        name for name, module in network.named_modules() if isinstance(module, nn.Conv2d) and _pads_by_copy(module)
    ]
    for name in padded:
        convolution = network.get_submodule(name)
        assert isinstance(convolution, nn.Conv2d)
        network.set_submodule(name, HalvingSame(convolution))
    return bool(pairs or padded)


class HalvingSame(nn.Module):
    """TensorFlow's "same" padding with stride 2, without a padded copy of an input of even sides.

    There one cell less is wanted on the top and the left than on the bottom and the right. A kernel with one more tap on the
    top and the left, which is zero, gives that with the same padding on all sides.

    Args:
        convolution: timm's `Conv2dSame` with an odd square kernel.
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


def _pairs(network: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions, each with the BatchNorm that takes its output."""
    found: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    made: list[tuple[nn.Conv2d, Tensor]] = []  # the last convolution and its output

    def remember(module: nn.Module, _: object, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        made[:] = [(module, output)]

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if made and inputs[0] is made[0][1] and isinstance(module, nn.BatchNorm2d):
            found.append((made[0][0], module))

    hooks = [m.register_forward_hook(remember) for m in network.modules() if isinstance(m, nn.Conv2d)]
    hooks += [m.register_forward_pre_hook(look) for m in network.modules() if _is_known(m)]
    network(example)
    for hook in hooks:
        hook.remove()
    return found


def _is_known(module: nn.Module) -> bool:
    """Whether a module is a BatchNorm of running statistics, PyTorch's or timm's, which is followed by an activation."""
    from timm.layers.norm_act import BatchNormAct2d

    if not isinstance(module, nn.BatchNorm2d) or type(module) not in (nn.BatchNorm2d, BatchNormAct2d):
        return False
    return module.affine and module.running_var is not None


def _after(norm: nn.Module) -> nn.Module:
    """What is left of a BatchNorm: timm's has a dropout and an activation."""
    from timm.layers.norm_act import BatchNormAct2d

    kept = (norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else ()
    return nn.Sequential(*(module for module in kept if isinstance(module, nn.Module)))


def _pads_by_copy(module: nn.Conv2d) -> bool:
    from timm.layers.conv2d_same import Conv2dSame

    height, width = module.kernel_size
    odd = height == width and height % 2 == 1
    return type(module) is Conv2dSame and odd and module.stride == (2, 2) and module.dilation == (1, 1)
