"""What a method says of a whole photograph, by its tiles."""

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anomap.data.tiles import AT_A_TIME, Tiling, stitched
from anomap.objectives.base import MethodOutput, Objective, device_of

ON_GPU = 32  # tiles at a time, since fewer would leave it idle
MAPS = ("anomaly_map", "attention_map", "reconstruction")  # of a `MethodOutput`


def measured(
    objective: Objective, images: Tensor, tiling: Tiling | None, wanted: Collection[str] = MAPS
) -> MethodOutput:
    """`objective.score` of images, or tiles, (B, C, H, W) in [0, 1]; of photographs in bytes, of one size, by their tiles.

    A part of a photograph's score is the highest of a look's tiles: a defect is in few of them. Its maps have its own size, and
    lie on the CPU; to save memory only those that are `wanted` are put together.
    """
    if tiling is None or images.is_floating_point():
        alone = objective.score(images)
        if tiling is None:
            return alone
        values = [*alone.parts.values()] * len(tiling.shrinks)  # a tile by itself stands for every look
        return replace(alone, parts=dict(zip(tiling.named([*alone.parts]), values, strict=True)))
    if len(images) == 1:  # whose maps are large: none is copied
        return _by_tiles(objective, images[0].cpu().numpy(), tiling, wanted)
    found = [_by_tiles(objective, photograph.numpy(), tiling, wanted) for photograph in images.cpu()]
    parts = {name: torch.cat([one.parts[name] for one in found]) for name in found[0].parts}
    return MethodOutput(
        parts, **{name: torch.cat([getattr(one, name) for one in found]) for name in _maps(found[0], wanted)}
    )


def _by_tiles(
    objective: Objective, photograph: npt.NDArray[np.uint8], tiling: Tiling, wanted: Collection[str]
) -> MethodOutput:
    device = device_of(objective)
    highest: dict[str, Tensor] = {}

    def maps_of(tiles: npt.NDArray[np.uint8], look: int) -> Mapping[str, npt.NDArray[np.float32]]:
        output = objective.score(torch.from_numpy(tiles).to(device).float().div_(255.0))
        for name, values in zip(tiling.named([*output.parts], look), output.parts.values(), strict=True):
            top = values.float().amax(0, keepdim=True)
            highest[name] = torch.maximum(highest.get(name, top), top)
        return {name: maps.float().cpu().numpy() for name, maps in _maps(output, wanted).items()}

    whole = stitched(maps_of, photograph, tiling, AT_A_TIME if device.type == "cpu" else ON_GPU)
    return MethodOutput(highest, **{name: torch.from_numpy(plane[None]) for name, plane in whole.items()})


def _maps(output: MethodOutput, wanted: Collection[str]) -> dict[str, Tensor]:
    """Those that a method has, by name."""
    named = {name: getattr(output, name) for name in MAPS if name in wanted}
    return {name: maps for name, maps in named.items() if maps is not None}
