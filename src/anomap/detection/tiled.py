"""What a method says of a whole photograph, by its tiles."""

from collections.abc import Mapping
from dataclasses import fields

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from anomap.data.tiles import Tiling, stitched
from anomap.objectives.base import MethodOutput, Objective


def measured(objective: Objective, images: Tensor, tiling: Tiling | None) -> MethodOutput:
    """`objective.score` of images (B, C, H, W) in [0, 1]; of photographs in bytes, of one size, by their tiles.

    A part of a photograph's score is the highest of its tiles: a defect is in few of them. Its maps have its own size.
    """
    if tiling is None or images.is_floating_point():
        return objective.score(images)
    found = [_by_tiles(objective, photograph.numpy(), tiling) for photograph in images.cpu()]
    parts = {name: torch.cat([one.parts[name] for one in found]) for name in found[0].parts}
    return MethodOutput(parts, **{name: torch.cat([getattr(one, name) for one in found]) for name in _maps(found[0])})


def _by_tiles(objective: Objective, photograph: npt.NDArray[np.uint8], tiling: Tiling) -> MethodOutput:
    device = next(iter([*objective.parameters(), *objective.buffers()])).device
    highest: dict[str, Tensor] = {}

    def maps_of(tiles: npt.NDArray[np.uint8]) -> Mapping[str, npt.NDArray[np.float32]]:
        output = objective.score(torch.from_numpy(tiles).to(device).float().div_(255.0))
        for name, values in output.parts.items():
            top = values.float().amax(0, keepdim=True)
            highest[name] = torch.maximum(highest.get(name, top), top)
        return {name: maps.float().cpu().numpy() for name, maps in _maps(output).items()}

    whole = stitched(maps_of, photograph, tiling)
    return MethodOutput(highest, **{name: torch.from_numpy(plane[None]) for name, plane in whole.items()})


def _maps(output: MethodOutput) -> dict[str, Tensor]:
    """Those that a method has, by name."""
    named = {field.name: getattr(output, field.name) for field in fields(output) if field.name != "parts"}
    return {name: maps for name, maps in named.items() if maps is not None}
