"""What a method, which knows nothing of Lightning, gives: parts of a score and an anomaly map; if it is trained, two losses."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from anomap.objectives.losses import AdversarialKind

Batch = Mapping[str, Tensor]
Losses = dict[str, Tensor]
Factory = Callable[..., nn.Module]  # makes a network; its configuration leaves open what it will see
Parts = Sequence[str] | Mapping[str, float]  # of a score: names, or name -> weight, where 0 leaves a part out
KNEE = 3.0  # of `compressed`, in standard deviations


@dataclass
class MethodOutput:
    """What a method says of a batch of images, in evaluation mode and without statistics of the batch.

    One part alone is the anomaly score, raw; several are standardised on some of the calibration normals and summed.
    """

    parts: dict[str, Tensor]  # name -> (B,), higher = more abnormal
    anomaly_map: Tensor  # (B, 1, H, W), higher = more abnormal, at the size of the image
    attention_map: Tensor | None = None  # (B, 1, H, W) in [0, 1], 1 = normal region
    reconstruction: Tensor | None = None  # (B, C, H, W) in [0, 1], of methods that have one in image space

    def columns(self, names: Sequence[str]) -> Tensor:
        """These parts, (B, K)."""
        return torch.stack([self.parts[name].float() for name in names], dim=1)

    @classmethod
    def of_images(cls, parts: dict[str, Tensor], x: Tensor, reconstruction: Tensor) -> "MethodOutput":
        """Of images and their reconstructions in [-1, 1], whose difference is the map."""
        return cls(parts, per_pixel(x - reconstruction), reconstruction=to_unit(reconstruction))


def device_of(module: nn.Module) -> torch.device:
    """Where it computes; the CPU for one without tensors."""
    return next(iter([*module.parameters(), *module.buffers()]), torch.empty(0)).device


def to_signed(images: Tensor) -> Tensor:
    """[0, 1], the range of all data, -> [-1, 1], the range of networks that end in tanh."""
    return images * 2 - 1


def to_unit(images: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1]."""
    return (images + 1) / 2


def per_pixel(difference: Tensor) -> Tensor:
    """Mean absolute difference over channels: (B, C, H, W) -> (B, 1, H, W)."""
    return difference.abs().mean(1, keepdim=True)


def resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps or small images (B, C, h, w) at the size of the image, bilinearly."""
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps
    return nn.functional.interpolate(maps, tuple(size), mode="bilinear", align_corners=False)


def compressed(x: Tensor) -> Tensor:
    """Linear up to 3, 3 + log(1 + (x - 3)) above: what is far out stays far out, and outweighs nothing else."""
    return torch.where(x > KNEE, KNEE + torch.log1p((x - KNEE).clamp(min=0)), x)


def weighed_parts(parts: Parts, known: Sequence[str]) -> dict[str, float]:
    """The chosen parts in the order of `known`, with their weights; ValueError: none, an unknown one, or a negative weight."""
    weights = dict(parts) if isinstance(parts, Mapping) else dict.fromkeys(parts, 1.0)
    if set(weights) - set(known) or min(weights.values(), default=0) < 0 or not any(weights.values()):
        raise ValueError(f"parts {parts}: use some of {list(known)}, with weights of at least 0")
    return {name: float(weights[name]) for name in known if weights.get(name)}


class Objective(nn.Module, ABC):
    """Base of all methods."""

    part_names: tuple[str, ...] = ()  # the keys of `MethodOutput.parts`, in order
    part_weights: Mapping[str, float] = {}  # how much each counts in the score; 1 where it is not named
    minimum_images: Mapping[str, int] = {}  # how many training images a part needs; with fewer, the score leaves it out

    def choose_parts(self, parts: Parts | None) -> None:
        """Make the score of some of the class's parts; None: all."""
        known = type(self).part_names
        self.part_weights = weighed_parts(known if parts is None else parts, known)
        self.part_names = tuple(self.part_weights)

    def part_shares(self) -> Mapping[str, float]:
        """Once learned: of its weight, how much each part counts with, by how many images it comes from; 1 where not named."""
        return {}

    @property
    def stride(self) -> int:
        """The image's sides must be multiples of it: what all networks and stages inside need."""
        strides = [getattr(child, "stride", 1) for child in self.children()]
        return math.lcm(*(stride for stride in strides if isinstance(stride, int)))

    @abstractmethod
    def score(self, images: Tensor) -> MethodOutput:
        """Score images (B, C, H, W) in [0, 1]; call in evaluation mode."""

    def learn_statistics(self, batches: Iterable[Tensor]) -> None:
        """Learn what has a closed form, in one or more passes over clean training images (B, C, H, W) in [0, 1] in stored order."""
        del batches


class FittedState(nn.Module):
    """A module whose buffers get their sizes when it is fitted, or from a checkpoint."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name, buffer in list(self._buffers.items()):
            saved = state_dict.get(prefix + name)
            if saved is not None and buffer is not None and saved.shape != buffer.shape:
                self._buffers[name] = torch.empty_like(saved, device=buffer.device)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class Step(dict[str, Tensor]):
    """One generator pass over a training batch: the fake, made once, and whatever else the two losses need."""

    def detached(self) -> "Step":
        """The same values, cut from the generator's graph."""
        return Step({name: value.detach() for name, value in self.items()})


class AdversarialObjective(Objective):
    """A method trained by two alternating steps; of what its losses return, `loss` is minimised and the rest is logged."""

    uses_augmentation: bool = True  # whether `generate` wants `augmented` and `mask` in its batch

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,  # x -> features, logits
        weights: Mapping[str, float],  # of the generator's losses, by name
        adversarial: AdversarialKind = "bce",
    ) -> None:
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        self.weights = dict(weights)
        self.adversarial: AdversarialKind = adversarial

    @abstractmethod
    def generate(self, batch: Batch) -> Step:
        """The generator's pass over a batch (`image`, `augmented` (B, C, H, W) in [0, 1], `mask` (B, 1, H, W))."""

    @abstractmethod
    def discriminator_losses(self, step: Step) -> Losses:
        """Loss of the discriminator; `step` is detached."""

    @abstractmethod
    def generator_losses(self, step: Step) -> Losses:
        """Loss of the generator; the discriminator's parameters are frozen by the caller."""


def weighted(terms: Losses, weights: Mapping[str, float]) -> Losses:
    """Add `loss` = Σ weight · term; a term of weight 0 stays in the log but out of the graph."""
    total = torch.stack([weights[name] * term for name, term in terms.items() if weights[name]]).sum()
    return {"loss": total, **{name: term.detach() for name, term in terms.items()}}
