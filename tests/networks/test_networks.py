"""Generators and discriminators: shapes, initialisation, no dead layer, and what the attention map does to the features."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from anomap.networks.blocks import CBAM, SelfAttention
from anomap.networks.discriminators import Discriminator
from anomap.networks.generators import SELF_ATTENTION_MAX_SIDE, EncoderDecoderEncoder, UNet, both_heads, halved, widths
from tests import tiny

SIZES: list[Any] = [32, 64, 96, 128, 256, [32, 64], [96, 32]]
UNETS = {
    "plain": {},
    "none": {"skips": "none"},
    "cbam": {"skips": "cbam"},
    "all": {"skips": "cbam", "self_attention": True, "map_head": "decoder"},
}


def pair(size: int | list[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("channels", [1, 3])
@torch.no_grad()
def test_shapes(size: int | list[int], channels: int) -> None:
    x = torch.rand(2, channels, *pair(size)) * 2 - 1
    generated = UNet(channels, size, width=8, skips="cbam", self_attention=True, map_head="decoder")(x)
    assert generated.image.shape == x.shape
    assert generated.map_logits.shape == (2, 1, *pair(size))
    assert generated.image.abs().max() <= 1
    ganomaly = EncoderDecoderEncoder(channels, size, latent=10, width=4)
    reconstruction, z, again = ganomaly(x)
    assert reconstruction.shape == x.shape
    assert z.shape == again.shape == (2, 10, 1, 1)
    for maps in (0, 1):
        features, logits = Discriminator(channels, size, width=4, map_channels=maps)(
            torch.cat([x, torch.ones(2, maps, *pair(size))], 1)
        )
        assert logits.shape == (2,)
        assert features.shape == (2, 32, *halved(size, 4))


@pytest.mark.parametrize("depth", [3, 4, 6])
@torch.no_grad()
def test_shapes_at_other_depths(depth: int) -> None:
    x = torch.rand(2, 1, 64, 64)
    net = UNet(1, 64, width=8, depth=depth, self_attention=True)
    assert net.stride == 2**depth
    assert net(x).image.shape == x.shape


def test_both_heads_at_once_give_what_each_gives() -> None:
    net, x = UNet(3, 32, width=8, map_head="decoder"), torch.randn(2, 16, 16, 16)
    assert net.map_head is not None
    image, map_logits = both_heads(x, net.image_head, net.map_head)
    torch.testing.assert_close(image, net.image_head(x))
    torch.testing.assert_close(map_logits, net.map_head(x))


def test_no_map_head_no_map() -> None:
    net, x = UNet(1, 32, width=8), torch.zeros(2, 1, 32, 32)
    assert net(x).map_logits is None
    with pytest.raises(ValueError, match="map_head"):
        net.maps(x)


@pytest.mark.parametrize("head", ["decoder", "cell"])
def test_the_map_alone_is_the_map_and_a_cell_head_needs_no_u_net_for_it(head: Any) -> None:
    net, x = UNet(1, 32, width=8, map_head=head), tiny.textures(2)
    tiny.settle(net, x)
    expected, ran = net(x).map_logits, []
    for layer in (*net.downs, *net.ups):
        layer.register_forward_hook(lambda *_: ran.append(1))
    fine, coarse = net.maps(x)
    assert fine is coarse
    torch.testing.assert_close(fine, expected)
    assert bool(ran) == (head == "decoder")


def test_a_fine_head_over_images_draws_at_their_size_and_scores_at_half_of_it() -> None:
    net, x = UNet(1, 32, width=8, map_head="fine"), tiny.textures(2)
    tiny.settle(net, x)
    made, (fine, coarse) = net(x), net.maps(x)
    assert fine.shape == (2, 1, 32, 32)
    assert coarse.shape == (2, 1, 16, 16)
    torch.testing.assert_close([fine, coarse], [made.map_logits, made.coarse_logits])
    x[:, :, 9, 20] += 2.0  # one pixel: what is drawn sees the image itself, not only the features of half its size
    assert (net.maps(x)[0] - fine).abs()[:, :, 8:11, 19:22].amin() > 0
    with pytest.raises(ValueError, match="stem"):
        UNet(1, 32, width=8, map_head="fine", stem=True)


def test_widths_are_capped() -> None:
    assert widths(4, 6) == [4, 8, 16, 32, 32, 32]


@pytest.mark.parametrize(
    "net",
    [
        *(UNet(3, 32, width=16, **options) for options in UNETS.values()),
        EncoderDecoderEncoder(3, 32, latent=20, width=16),
        Discriminator(3, 32, width=16),
        Discriminator(3, 32, width=16, map_channels=1, norm="spectral"),
    ],
    ids=[*UNETS, "encoder-decoder-encoder", "discriminator", "spectral"],
)
def test_the_dcgan_initialisation_is_really_applied(net: nn.Module) -> None:
    convolutions = 0
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            weight: Any = module.weight
            if nn.utils.parametrize.is_parametrized(module, "weight"):
                weight = module.parametrizations.weight.original  # pyright: ignore
            if weight.numel() > 500:
                convolutions += 1
                assert weight.std().item() == pytest.approx(0.02, rel=0.15), name
    assert convolutions >= 4


@pytest.mark.parametrize("options", UNETS.values(), ids=UNETS)
@pytest.mark.parametrize("size", [32, 64, 128, 256])
def test_self_attention_sits_in_the_decoder_at_its_largest_size_up_to_32(size: int, options: dict[str, Any]) -> None:
    net = UNet(1, size, width=8, **options)
    sides: list[int] = []
    for module in net.modules():
        if isinstance(module, SelfAttention):
            module.register_forward_hook(lambda _m, inputs, _o: sides.append(max(inputs[0].shape[-2:])))
    with torch.no_grad():
        net(torch.zeros(1, 1, size, size).repeat(2, 1, 1, 1))
    assert sides == ([min(size // 2, SELF_ATTENTION_MAX_SIDE)] if options.get("self_attention") else [])


def test_self_attention_is_left_out_where_everything_is_larger_than_32() -> None:
    net = UNet(1, 512, width=8, depth=3, self_attention=True)
    assert not any(isinstance(module, SelfAttention) for module in net.modules())


def test_every_skip_goes_through_its_own_cbam() -> None:
    net = UNet(1, 32, width=8, skips="cbam")
    gates = [gate for gate in net.gates if isinstance(gate, CBAM)]
    assert len(gates) == len(net.downs) - 1
    x = torch.randn(2, 1, 32, 32)
    tiny.settle(net, x)
    before = net(x).image
    for gate in gates:  # each gate matters to the output
        weight = gate[1].conv.weight  # pyright: ignore[reportAttributeAccessIssue]
        kept = weight.detach().clone()  # pyright: ignore[reportCallIssue]
        nn.init.constant_(weight, -5.0)  # pyright: ignore[reportArgumentType]
        assert (net(x).image - before).abs().max() > 1e-5
        weight.data.copy_(kept)  # pyright: ignore


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValueError, match="skips"):
        UNet(1, 32, skips="dense")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="norm"):
        Discriminator(1, 32, norm="layer")  # pyright: ignore[reportArgumentType]


def test_a_cell_head_judges_each_cell_by_itself_and_sees_the_context() -> None:
    net = UNet(3, 32, width=8, depth=2, stem=True, bounded=False, map_head="cell", context=2)
    x = torch.rand(4, 5, 32, 32)
    tiny.settle(net, x)
    before = net(x)
    changed = x.clone()
    changed[:, 4, 10, 20] += 1  # one cell of the context
    after = net(changed)
    different = (before.map_logits != after.map_logits).nonzero()
    assert {tuple(place) for place in different[:, 2:].tolist()} == {(10, 20)}
    assert torch.equal(before.image, after.image)  # what is reconstructed does not depend on the context
    assert before.image.shape == (4, 3, 32, 32)


@pytest.mark.parametrize("skips", ["none", "plain", "cbam"])
def test_nothing_from_outside_the_normal_region_is_carried_over(skips: Any) -> None:
    """Under a map of zeros the image has no influence; under ones it has all."""
    net = UNet(1, 32, width=8, skips=skips)
    x, y = tiny.textures(2), tiny.textures(2, seed=3)
    tiny.settle(net, torch.cat([x, y]))
    zeros, ones = torch.zeros(2, 1, 32, 32), torch.ones(2, 1, 32, 32)
    torch.testing.assert_close(net(x, zeros).image, net(y, zeros).image, rtol=0, atol=0)
    torch.testing.assert_close(net(x, ones).image, net(x).image)
    assert not torch.allclose(net(x).image, net(y).image)


def test_every_feature_map_that_reaches_the_decoder_is_multiplied_by_the_map() -> None:
    net = UNet(1, 32, width=8, skips="cbam")
    x = tiny.textures(2)
    tiny.settle(net, x)
    attention = torch.ones(2, 1, 32, 32)
    attention[..., 12:] = 0.25
    made: list[Tensor] = []
    received: dict[int, Tensor] = {}
    for layer in net.downs:
        layer.register_forward_hook(lambda _m, _i, output: made.append(output.clone()))
    for level, layer in enumerate([net.ups[0], *net.gates]):
        layer.register_forward_hook(lambda _m, inputs, _o, level=level: received.update({level: inputs[0]}))
    net(x, attention)
    assert len(received) == len(made) == 5
    for level, features in enumerate(reversed(made)):
        side = features.shape[-1]
        pooled = attention.view(2, 1, side, 32 // side, side, 32 // side).mean(
            (3, 5)
        )  # each cell's share, not a sample
        torch.testing.assert_close(received[level], features * pooled)


def _backward(method: Any, batch: Any, part: str) -> None:
    step = method.generate(batch)
    losses = method.generator_losses(step) if part == "generator" else method.discriminator_losses(step.detached())
    losses["loss"].backward()


@pytest.mark.parametrize("part", ["generator", "discriminator"])
@pytest.mark.parametrize("model", tiny.TRAINED)
def test_every_parameter_of_every_model_receives_a_gradient(model: str, part: str) -> None:
    method = tiny.objective(model)
    tiny.fitted(method)
    for name, parameter in method.named_parameters():
        if name.endswith("gamma"):  # at its start of 0 the queries, keys and values would get none
            nn.init.constant_(parameter, 0.5)
        if name.endswith("logit.bias"):  # while the hinge cuts nothing off, as many real as fake cancel exactly
            nn.init.constant_(parameter, 1.5)
    _backward(method.train(), tiny.batch(6), part)
    trained: nn.Module = getattr(method, part)
    dead = [
        name
        for name, parameter in trained.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]
    assert dead == []


@pytest.mark.thorough
@pytest.mark.parametrize("model", tiny.MODELS)
@torch.no_grad()
def test_in_evaluation_mode_the_companions_do_not_matter(model: str) -> None:
    """The networks themselves; `tests/test_regressions.py` says the same of the scores."""
    method = tiny.busy(tiny.objective(model))
    seen: dict[str, tuple[nn.Module, tuple[Tensor, ...]]] = {}

    def remember(name: str) -> Any:
        return lambda module, inputs: seen.update({name: (module, inputs)})

    hooks = [
        module.register_forward_pre_hook(remember(name))
        for name, module in method.named_modules()
        if isinstance(module, UNet | EncoderDecoderEncoder | Discriminator)
    ]
    method.score(tiny.textures(5, seed=9))
    for hook in hooks:
        hook.remove()
    # whose score asks the map's head alone
    assert bool(seen) == (model in tiny.TRAINED and model != "feature_attention_network")
    for name, (module, inputs) in seen.items():

        def outputs(*x: Tensor, module: nn.Module = module) -> list[Tensor]:
            result = module(*x)
            values = [result.image, result.map_logits] if isinstance(module, UNet) else list(result)
            return [value for value in values if value is not None]

        together = outputs(*inputs)
        backwards = outputs(*(x.flip(0) for x in inputs))
        single = [outputs(*(x[i : i + 1] for x in inputs)) for i in range(5)]
        apart = [torch.cat(parts) for parts in zip(*single, strict=True)]
        for all_at_once, reversed_order, one_by_one in zip(together, backwards, apart, strict=True):
            assert all_at_once.std(0).max() > 1e-4, f"{name} says the same of every image: nothing is tested"
            torch.testing.assert_close(all_at_once, reversed_order.flip(0), rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(all_at_once, one_by_one, rtol=1e-3, atol=1e-4)


def test_a_spectral_discriminator_sees_no_batch_even_in_training() -> None:
    net = Discriminator(1, 32, width=8, norm="spectral").train()
    net(torch.randn(2, 1, 32, 32))
    x = torch.randn(4, 1, 32, 32)
    for module in net.modules():  # hold the power iteration, which a training pass advances, still
        module.training = False
    still = net(x)[1]
    torch.testing.assert_close(net(x[:1])[1], still[:1])
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
