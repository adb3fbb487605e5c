"""Hard augmentation: a region (where) times a fill (what) makes a normal image abnormal, and gives the mask.

    augmentation = HardAugmentation({"blob": Blob()}, {"cutout": Cutout()}, seed=0)
    augmented, mask = augmentation(images, index, epoch=3)

The term is that of "Attention Map-guided Two-stage Anomaly Detection using Hard Augmentation"
(https://arxiv.org/abs/2103.16851); the families come from Cutout, CutPaste, DRAEM and CSI, named where they
are implemented. What each preset holds is in `conf/augmentation/*.yaml`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from anomap.augmentation.fills import Donors, Fill
from anomap.augmentation.random import Draw, between, integer, to_device
from anomap.augmentation.regions import Region
from anomap.augmentation.settings import Bounds
from anomap.errors import UserError

_Part = TypeVar("_Part", Region, Fill)


class HardAugmentation:
    """Draws up to `count` pairs of a region and a fill per image and shows them one over the other.

    A sample's result is a pure function of (seed, epoch, index) and its pixels: batch size, order and
    companions do not matter. Nothing loops over the batch; the loops go over the kinds of regions and fills.
    """

    def __init__(
        self,
        regions: Mapping[str, Region],
        fills: Mapping[str, Fill],
        probability: float = 1.0,
        visible: float = 0.03,
        seed: int = 0,
        count: Sequence[int] = (1, 1),
        exclude: Sequence[Sequence[str]] = (),
        only_regions: Sequence[str] | None = None,
        only_fills: Sequence[str] | None = None,
        name: str = "",
    ) -> None:
        """What may be drawn, and how often.

        A pair is drawn with odds region.weight * fill.weight, excluded pairs never.

        Args:
            regions: name -> region.
            fills: name -> fill.
            probability: the chance that an image is augmented at all.
            visible: an intensity change (0 ... 1) above this counts as visible and belongs to the mask.
            seed: of the random numbers.
            count: range of the number of changes in one image, equally likely.
            exclude: (region, fill) names that are never paired.
            only_regions: draw from these regions alone (default: all).
            only_fills: draw from these fills alone (default: all).
            name: of the preset, for the results.

        Raises:
            UserError: a name is unknown, a number is out of bounds, or no pair is left.
        """
        self.regions = _chosen("regions", regions, only_regions)
        self.fills = _chosen("fills", fills, only_fills)
        self.probability = Bounds(0.0, 1.0).number("probability", probability)
        self.visible = Bounds(0.0, 1.0).number("visible", visible)
        self.seed = int(seed)
        self.name = name
        low, high = Bounds(1, 16).interval("count", count)
        self.count = int(low), int(high)
        excluded = {_pair(pair, regions, fills) for pair in exclude}
        odds = [
            0.0 if (region, fill) in excluded else self.regions[region].weight * self.fills[fill].weight
            for region in self.regions
            for fill in self.fills
        ]
        self._odds = torch.tensor(odds, dtype=torch.float64)  # position = region * len(fills) + fill
        if self.probability > 0.0 and not (self._odds > 0.0).any():
            raise UserError(
                "augmentation: no pair of a region and a fill is left to draw;"
                " raise a weight, or change only_regions, only_fills or exclude"
            )

    def __call__(
        self, images: Tensor, index: Tensor, epoch: int, donors: Donors | None = None
    ) -> tuple[Tensor, Tensor]:
        """Augments a batch.

        Args:
            images: float (B, C, H, W) in [0, 1].
            index: int64 (B,), each sample's number in the training set; on the CPU, or the device is waited for.
            epoch: of the training.
            donors: the training images, which "paste from another image" takes from.

        Returns:
            The augmented images (B, C, H, W) in [0, 1], and the mask (B, 1, H, W), float: 1 where the image
            visibly changed, so all 0 for an image in which nothing did. Outside the mask no channel changed
            by more than `visible`. Changed pixels lie on the 8-bit levels of stored images, so that their
            values alone do not give them away. A change may be a speck of a few pixels: to shrink the mask to a
            coarser map take averages over its cells (`adaptive_avg_pool2d`, or `interpolate` with mode "area"),
            which keep the speck's weight; nearest or bilinear sampling may miss it.

        Raises:
            ValueError: pasting from another image was drawn, but there are no donors, or of another shape.
        """
        plan, device = self._plan(index, epoch), images.device
        if len(plan.rows) == 0:
            return images.clone(), torch.zeros_like(images[:, :1])
        shape = images.shape[2], images.shape[3]
        where = _Grouped.of(plan.pair // len(self.fills), len(self.regions), plan.draw.fork("region"))
        what = _Grouped.of(plan.pair % len(self.fills), len(self.fills), plan.draw.fork("fill"))
        # All that was decided on the CPU crosses to the device at once.
        decided = torch.stack([plan.rows, where.order, where.keys, what.order, what.keys])
        rows, *groups = to_device(decided, device).unbind()

        opacity = images.new_zeros(len(rows), 1, *shape)
        for number, chosen, draw in where.parts(*groups[:2]):
            opacity.index_copy_(0, chosen, list(self.regions.values())[number](draw, shape))

        # Every fill starts from the unchanged image: one call per kind then serves all layers.
        filled = images.new_empty(len(rows), *images.shape[1:])
        for number, chosen, draw in what.parts(*groups[2:]):
            fill, region = list(self.fills.values())[number], opacity.index_select(0, chosen)
            changed = fill(images.index_select(0, rows[chosen]), region, draw, donors)
            filled.index_copy_(0, chosen, changed)
            strength = between(draw.uniform("opacity"), fill.opacity)[:, None, None, None]
            opacity.index_copy_(0, chosen, region * strength)

        augmented = images.clone()
        touched = torch.zeros_like(images[:, :1], dtype=torch.bool)
        layers = (part.split(plan.layers) for part in (rows, filled.clamp_(0.0, 1.0), opacity))
        for target, top, strength in zip(*layers, strict=True):
            if len(target) == len(images):  # every image in its order: no copy to and fro
                augmented.lerp_(top, strength)
            else:
                augmented.index_copy_(0, target, augmented.index_select(0, target).lerp_(top, strength))
            touched[target] |= strength > 0.0
        augmented = torch.where(touched, augmented.mul_(255.0).round_().div_(255.0), images)
        return augmented, visible_mask(images, augmented, touched, self.visible)

    def describe(self, index: Tensor, epoch: int) -> list[str]:
        """What `__call__` draws for each sample: "blob x cutout + crack x shift", or "-" for nothing."""
        plan = self._plan(index, epoch)
        regions, fills = list(self.regions), list(self.fills)
        words: list[list[str]] = [[] for _ in range(len(index))]
        for row, number in zip(plan.rows.tolist(), plan.pair.tolist(), strict=True):
            words[row].append(f"{regions[number // len(fills)]} x {fills[number % len(fills)]}")
        return [" + ".join(parts) or "-" for parts in words]

    def _plan(self, index: Tensor, epoch: int) -> _Plan:
        """The changes to be made, sorted by layer, the lowest first."""
        draw = Draw.at(self.seed, epoch, index.cpu())
        apply, count = draw.uniform("plan", 2).unbind(1)
        count = integer(count, *self.count) * (apply < self.probability)
        layer, rows = (torch.arange(self.count[1])[:, None] < count).nonzero(as_tuple=True)
        draw = draw.select(rows).fork("layer", layer)
        pair = draw.choice("pair", self._odds) if len(rows) > 0 else rows
        return _Plan(rows, layer.bincount(minlength=self.count[1]).tolist(), pair, draw)


class _Plan(NamedTuple):
    """N changes, on the CPU: a device would have to be waited for before its loops know what to do.

    Attributes:
        rows: int64 (N,), each change's place in the batch.
        layers: how many changes there are in each layer, N in all.
        pair: int64 (N,), region * fills + fill.
        draw: the N changes' random numbers.
    """

    rows: Tensor
    layers: list[int]
    pair: Tensor
    draw: Draw


class _Grouped(NamedTuple):
    """N changes sorted by the kind of region or fill, on the CPU.

    Attributes:
        order: int64 (N,), their places before.
        keys: int64 (N,), their keys of random numbers, sorted.
        counts: of each kind, N in all.
    """

    order: Tensor
    keys: Tensor
    counts: list[int]

    @classmethod
    def of(cls, kind: Tensor, kinds: int, draw: Draw) -> _Grouped:
        """Sort by `kind`, int64 (N,) below `kinds`."""
        order = kind.argsort(stable=True)
        return cls(order, draw.keys[order], kind.bincount(minlength=kinds).tolist())

    def parts(self, order: Tensor, keys: Tensor) -> Iterator[tuple[int, Tensor, Draw]]:
        """Each kind that occurs, its changes and their random numbers; `order` and `keys` are copies on the device."""
        parts = zip(*(part.split(self.counts) for part in (order, keys, self.keys)), strict=True)
        for number, (chosen, there, here) in enumerate(parts):
            if self.counts[number] > 0:
                yield number, chosen, Draw(there, here)


def visible_mask(images: Tensor, augmented: Tensor, touched: Tensor, visible: float) -> Tensor:
    """1 where the image visibly changed: float (B, 1, H, W).

    The visible change is closed (dilated, then eroded) by about 1/64 of the image, inside the touched pixels
    only, so that the noise pixels that happen to equal the image leave no holes.

    Args:
        images: (B, C, H, W), before.
        augmented: (B, C, H, W), after.
        touched: bool (B, 1, H, W), where anything was painted.
        visible: a change of any channel counts above this.
    """
    changed = (augmented - images).abs_().amax(1, keepdim=True) > visible
    radius = max(1, round(min(images.shape[2:]) / 64))
    closed = ~_dilate(~_dilate(changed, radius), radius)
    return (changed | (closed & touched)).to(images.dtype)


def _dilate(mask: Tensor, radius: int) -> Tensor:
    """Every true pixel of a bool (B, 1, H, W) grown to a square of side 2 * radius + 1.

    Shifted ORs, one axis after the other, each shift as far as leaves no gap: on one byte per pixel they take a
    twentieth of the time of max_pool2d.
    """
    for axis in (2, 3):
        size, reach = mask.shape[axis], 0
        while reach < min(radius, size - 1):
            step = min(2 * reach + 1, radius - reach, size - 1)
            grown = mask.clone()
            grown.narrow(axis, step, size - step).logical_or_(mask.narrow(axis, 0, size - step))
            grown.narrow(axis, 0, size - step).logical_or_(mask.narrow(axis, step, size - step))
            mask, reach = grown, reach + step
    return mask


def _chosen(kind: str, parts: Mapping[str, _Part], only: Sequence[str] | None) -> dict[str, _Part]:
    """The parts named in `only`, or all."""
    for name in only or ():
        _known(f"only_{kind}", name, parts)
    return {name: part for name, part in parts.items() if only is None or name in only}


def _pair(pair: Sequence[str], regions: Mapping[str, Region], fills: Mapping[str, Fill]) -> tuple[str, str]:
    """An entry of `exclude` as (region, fill)."""
    if isinstance(pair, str) or len(pair) != 2:
        raise UserError(f"augmentation: exclude has {pair}, give [region, fill]")
    _known("exclude", pair[0], regions)
    _known("exclude", pair[1], fills)
    return pair[0], pair[1]


def _known(where: str, name: str, parts: Mapping[str, Any]) -> None:
    if name not in parts:
        raise UserError(f"augmentation: {where} names {name}, which is not there; choose from {', '.join(parts)}")
