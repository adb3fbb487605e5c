"""The faster ways to compute a convolution give PyTorch's own results, gradients included, and stay out of exported graphs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from anomap.detection.operations import as_defined
from anomap.networks.convolutions import Convolution, TransposedConvolution, overlap_add

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "one product over the whole grid": (lambda: Convolution(6, 5, (3, 4)), (6, 3, 4)),
    "from 2x2 to one cell": (lambda: Convolution(6, 5, 4, 2, 1, bias=False), (6, 2, 2)),
    "from 4x4 to 2x2": (lambda: Convolution(6, 5, 4, 2, 1), (6, 4, 4)),
    "from few channels": (lambda: Convolution(3, 8, 4, 2, 1), (3, 8, 12)),
    "from a cell to a grid": (lambda: TransposedConvolution(6, 5, (3, 4), bias=False), (6, 1, 1)),
    "from a cell to 2x2": (lambda: TransposedConvolution(6, 5, 4, 2, 1), (6, 1, 1)),
    "from 2x2 to 4x4": (lambda: TransposedConvolution(6, 5, 4, 2, 1, bias=False), (6, 2, 2)),
    "to few channels": (lambda: TransposedConvolution(6, 2, 4, 2, 1), (6, 5, 3)),
}
PLAIN: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "many channels": (lambda: Convolution(8, 8, 4, 2, 1), (8, 8, 8)),
    "another stride": (lambda: TransposedConvolution(6, 2, 4, 1, 1), (6, 2, 2)),
    "another kernel": (lambda: Convolution(2, 4, 3, 1, 1), (2, 2, 2)),
    "a padded kernel as large as the grid": (lambda: Convolution(2, 4, 2, padding=1), (2, 2, 2)),
    "odd sides": (lambda: Convolution(3, 8, 4, 2, 1), (3, 5, 8)),
    "reflected": (lambda: Convolution(3, 8, 4, 2, 1, padding_mode="reflect"), (3, 8, 8)),
    "circular": (lambda: Convolution(6, 8, 4, 2, 1, padding_mode="circular"), (6, 2, 2)),
    "dilated": (lambda: Convolution(3, 8, 4, 2, 1, dilation=2), (3, 12, 12)),
    "in groups": (lambda: Convolution(4, 8, 4, 2, 1, groups=2), (4, 2, 2)),
    "transposed in groups": (lambda: TransposedConvolution(6, 4, 4, 2, 1, groups=2, bias=False), (6, 5, 5)),
    "one cell in groups": (lambda: TransposedConvolution(6, 8, 4, groups=2, bias=False), (6, 1, 1)),
    "padded output": (lambda: TransposedConvolution(6, 4, 4, 2, 1, output_padding=1), (6, 5, 5)),
    "one cell dilated": (lambda: TransposedConvolution(6, 4, 3, dilation=2), (6, 1, 1)),
}


def _results(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """Output and the gradients towards input and weights, of a sum that weighs every output differently."""
    x = x.clone().requires_grad_()
    made = layer(x)
    weights = torch.linspace(-1, 1, made.numel()).view(made.shape)
    return [made, *torch.autograd.grad((made * weights).sum(), [x, *layer.parameters()])]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", [*LAYERS, *PLAIN])
def test_equals_pytorch(name: str, memory_format: torch.memory_format) -> None:
    make, shape = (LAYERS | PLAIN)[name]
    layer = make().to(memory_format=memory_format)
    x = torch.randn(4, *shape).to(memory_format=memory_format)
    with as_defined():
        expected = _results(layer, x)
    for found, wanted in zip(_results(layer, x), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_takes_the_other_way(name: str) -> None:
    """Otherwise the comparison above compares PyTorch with itself."""
    make, shape = LAYERS[name]
    layer, x = make(), torch.randn(2, *shape, requires_grad=True)

    def graph() -> str:
        node, names = layer(x).grad_fn, []
        while node is not None:
            names.append(node.name())
            node = next((below for below, _ in node.next_functions if below is not None), None)
        return " ".join(names)

    assert "ConvolutionBackward" not in graph()
    with as_defined():
        assert "ConvolutionBackward" in graph()


def test_patches_that_overlap() -> None:
    x, weight = torch.randn(2, 3, 3, 2, dtype=torch.float64), torch.randn(3, 2, 4, 4, dtype=torch.float64)
    expected = nn.functional.conv_transpose2d(x, weight, stride=2, padding=1)
    torch.testing.assert_close(overlap_add(x, weight), expected)


@pytest.mark.parametrize("name", LAYERS)
def test_gradient_penalties_go_through(name: str) -> None:
    make, shape = LAYERS[name]
    layer, x = make(), torch.randn(2, *shape, requires_grad=True)

    def penalty() -> Tensor:
        made = layer(x)
        (gradient,) = torch.autograd.grad((made**2).sum(), x, create_graph=True)
        return torch.autograd.grad((gradient**2).sum(), next(layer.parameters()))[0]

    found = penalty()
    with as_defined():
        torch.testing.assert_close(found, penalty(), rtol=1e-3, atol=1e-3)


def test_a_given_output_size_and_a_single_image_are_pytorchs_own() -> None:
    layer = TransposedConvolution(6, 4, 4, 2, 1)
    assert layer(torch.randn(2, 6, 5, 5), output_size=[11, 10]).shape == (2, 4, 11, 10)
    assert layer(torch.randn(6, 1, 1)).shape == (4, 2, 2)


def test_only_what_is_needed_gets_a_gradient() -> None:
    for make, shape in LAYERS.values():
        layer, x = make().requires_grad_(False), torch.randn(2, *shape, requires_grad=True)
        layer(x).sum().backward()
        assert x.grad is not None
        assert all(parameter.grad is None for parameter in layer.parameters())


def test_single_grid_leaves_out_the_padding() -> None:
    layer, x = Convolution(8, 8, 4, 2, 1), torch.randn(2, 8, 2, 2)
    with FlopCounterMode(display=False) as counter:
        layer(x)
    with as_defined(), FlopCounterMode(display=False) as defined:
        layer(x)
    assert 4 * counter.get_total_flops() == defined.get_total_flops()


def test_exported_graph_keeps_the_convolution() -> None:
    for make, shape in LAYERS.values():
        program = torch.export.export(make().eval(), (torch.randn(2, *shape),))
        operations = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
        assert any("conv" in operation for operation in operations), operations


def test_mixed_precision_is_pytorchs_own() -> None:
    layer, x = Convolution(6, 5, 4, 2, 1), torch.randn(2, 6, 2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
