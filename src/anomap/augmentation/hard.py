"""Hard augmentation: a region (where) times a fill (what) makes a normal image abnormal, and gives the mask.

    augmentation = HardAugmentation({"blob": Blob()}, {"cutout": Cutout()}, seed=0)
    augmented, mask = augmentation(images, index, epoch=3)

The term is that of "Attention Map-guided Two-stage Anomaly Detection using Hard Augmentation" (arXiv 2103.16851);
where the families come from is said beside each. The presets are `conf/augmentation/*.yaml`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeVar

import torch
from torch import Tensor

from anomap.augmentation.fills import Donors, Fill
from anomap.augmentation.random import Draw, between, integer, to_device
from anomap.augmentation.regions import Region
from anomap.augmentation.settings import Bounds, Fraction, Settings
from anomap.errors import UserError

_Part = TypeVar("_Part", Region, Fill)


@dataclass(eq=False)
class HardAugmentation(Settings):
    """Draws pairs of a region and a fill for each image and shows them one over the other.

    The odds of a pair are region.weight * fill.weight. A sample's result is a pure function of (seed, epoch, index)
    and its pixels. Loops go over kinds of regions and fills, never over the batch.
    UserError: a name is unknown, a number is out of bounds, or no pair is left.
    """

    regions: Mapping[str, Region]
    fills: Mapping[str, Fill]
    probability: Fraction = 1.0  # chance that an image is augmented at all
    visible: Fraction = 0.03  # an intensity change (0 ... 1) above this counts as visible and belongs to the mask
    seed: int = 0
    count: Annotated[tuple[int, int], Bounds(1, 16)] = (1, 1)  # fewest and most changes in one image, equally likely
    exclude: Sequence[Sequence[str]] = ()  # (region, fill) names that are never paired
    only_regions: Sequence[str] | None = None  # draw from these alone; None = all
    only_fills: Sequence[str] | None = None
    name: str = ""  # of the preset, for the results

    def __post_init__(self) -> None:
        super().__post_init__()
        if wrong := [pair for pair in self.exclude if isinstance(pair, str) or len(pair) != 2]:
            raise UserError(f"augmentation: exclude has {wrong[0]}, give [region, fill]")
        regions = self.regions if self.only_regions is None else self.only_regions
        fills = self.fills if self.only_fills is None else self.only_fills
        for key, names, parts in (
            ("only_regions", regions, self.regions),
            ("only_fills", fills, self.fills),
            ("exclude", [region for region, _ in self.exclude], self.regions),
            ("exclude", [fill for _, fill in self.exclude], self.fills),
        ):
            if unknown := [name for name in names if name not in parts]:
                known = ", ".join(parts)
                raise UserError(f"augmentation: {key} names {unknown[0]}, which is not there; choose from {known}")
        excluded = {tuple(pair) for pair in self.exclude}
        odds = [
            region.weight * fill.weight if where in regions and what in fills and (where, what) not in excluded else 0.0
            for where, region in self.regions.items()
            for what, fill in self.fills.items()
        ]
        self._odds = torch.tensor(odds, dtype=torch.float64)  # position = region * len(fills) + fill
        if self.probability > 0.0 and not (self._odds > 0.0).any():
            remedy = "raise a weight, or change only_regions, only_fills or exclude"
            raise UserError(f"augmentation: no pair of a region and a fill is left to draw; {remedy}")

    def __call__(
        self, images: Tensor, index: Tensor, epoch: int, donors: Donors | None = None
    ) -> tuple[Tensor, Tensor]:
        """Augments a batch.

        Args:
            images: float (B, C, H, W) in [0, 1].
            index: int64 (B,), each sample's number in the training set; on the CPU, or the device is waited for.
            epoch: of the training.
            donors: the training images, for `PasteImage`, which raises ValueError without fitting ones.

        Returns:
            The augmented images (B, C, H, W) in [0, 1], and the mask (B, 1, H, W), float: 1 where the image visibly
            changed, by more than `visible` in any channel. Shrink it by averaging: other ways may miss a speck. Changed
            pixels lie on the 8-bit levels of stored images, so that their values do not give them away.
        """
        (rows, layers, pair, drawn), device = self._plan(index, epoch), images.device
        if len(rows) == 0:
            return images.clone(), torch.zeros_like(images[:, :1])
        shape = images.shape[2], images.shape[3]
        where = _Grouped(pair // len(self.fills), len(self.regions), drawn.fork("region"))
        what = _Grouped(pair % len(self.fills), len(self.fills), drawn.fork("fill"))
        decided = torch.stack([rows, where.order, where.keys, what.order, what.keys])
        rows, *groups = to_device(decided, device).unbind()  # one transfer for all

        opacity = images.new_zeros(len(rows), 1, *shape)
        for region, chosen, draw in where.each(self.regions.values(), *groups[:2]):
            opacity.index_copy_(0, chosen, region(draw, shape))

        # Every fill starts from the unchanged image: one call per kind then serves all layers.
        filled = images.new_empty(len(rows), *images.shape[1:])
        for fill, chosen, draw in what.each(self.fills.values(), *groups[2:]):
            region = opacity.index_select(0, chosen)
            filled.index_copy_(0, chosen, fill(images.index_select(0, rows[chosen]), region, draw, donors))
            strength = between(draw.uniform("opacity"), fill.opacity)[:, None, None, None]
            opacity.index_copy_(0, chosen, region * strength)

        augmented = images.clone()
        touched = torch.zeros_like(images[:, :1], dtype=torch.bool)
        stack = (part.split(layers) for part in (rows, filled.clamp_(0.0, 1.0), opacity))
        for target, top, strength in zip(*stack, strict=True):
            if len(target) == len(images):  # every image in its order: no copy to and fro
                augmented.lerp_(top, strength)
            else:
                augmented.index_copy_(0, target, augmented.index_select(0, target).lerp_(top, strength))
            touched[target] |= strength > 0.0
        augmented = torch.where(touched, augmented.mul_(255.0).round_().div_(255.0), images)
        return augmented, visible_mask(images, augmented, touched, self.visible)

    def describe(self, index: Tensor, epoch: int) -> list[str]:
        """What `__call__` draws for each sample: "blob x cutout + crack x shift", or "-" for nothing."""
        rows, _, pairs, _ = self._plan(index, epoch)
        names = [f"{region} x {fill}" for region in self.regions for fill in self.fills]
        words: list[list[str]] = [[] for _ in range(len(index))]
        for row, pair in zip(rows.tolist(), pairs.tolist(), strict=True):
            words[row].append(names[pair])
        return [" + ".join(parts) or "-" for parts in words]

    def _plan(self, index: Tensor, epoch: int) -> tuple[Tensor, list[int], Tensor, Draw]:
        """N changes, lowest layer first, on the CPU: rows (N,), how many each layer has, pairs (N,), random numbers."""
        draw = Draw.at(int(self.seed), epoch, index.cpu())
        apply, count = draw.uniform("plan", 2).unbind(1)
        fewest, most = map(int, self.count)
        count = integer(count, fewest, most) * (apply < self.probability)
        layer, rows = (torch.arange(most)[:, None] < count).nonzero(as_tuple=True)
        draw = draw.select(rows).fork("layer", layer)
        pair = draw.choice("pair", self._odds) if len(rows) > 0 else rows
        return rows, layer.bincount(minlength=most).tolist(), pair, draw


class _Grouped:
    """N changes sorted by their kind of region or fill, on the CPU."""

    def __init__(self, kind: Tensor, kinds: int, draw: Draw) -> None:
        self.order = kind.argsort(stable=True)  # int64 (N,), their places before
        self.keys = draw.keys[self.order]  # int64 (N,), of their random numbers
        self.counts: list[int] = kind.bincount(minlength=kinds).tolist()

    def each(self, parts: Iterable[_Part], order: Tensor, keys: Tensor) -> Iterator[tuple[_Part, Tensor, Draw]]:
        """Each part that was drawn, its changes and their numbers; `order` and `keys` are copies on the device."""
        split = (numbers.split(self.counts) for numbers in (order, keys, self.keys))
        for part, chosen, there, here in zip(parts, *split, strict=True):
            if len(chosen) > 0:
                yield part, chosen, Draw(there, here)


def visible_mask(images: Tensor, augmented: Tensor, touched: Tensor, visible: float) -> Tensor:
    """1 where the image changed by more than `visible` in any channel: float (B, 1, H, W).

    Closed (dilated, then eroded) by about 1/64 of the image within the painted pixels `touched` (bool), so that noise which
    happens to equal the image leaves no holes.
    """
    changed = (augmented - images).abs_().amax(1, keepdim=True) > visible
    radius = max(1, round(min(images.shape[2:]) / 64))
    closed = ~_dilate(~_dilate(changed, radius), radius)
    return (changed | (closed & touched)).to(images.dtype)


def _dilate(mask: Tensor, radius: int) -> Tensor:
    """Every true pixel of a bool (B, 1, H, W) grown to a square of side 2 * radius + 1 by shifted ORs, faster than max_pool2d."""
    for axis in (2, 3):
        size, reach = mask.shape[axis], 0
        while reach < min(radius, size - 1):
            step = min(2 * reach + 1, radius - reach, size - 1)  # as far as leaves no gap
            grown = mask.clone()
            grown.narrow(axis, step, size - step).logical_or_(mask.narrow(axis, 0, size - step))
            grown.narrow(axis, 0, size - step).logical_or_(mask.narrow(axis, step, size - step))
            mask, reach = grown, reach + step
    return mask
