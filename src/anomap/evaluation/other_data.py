"""Other images for a trained detector, read as those that it was trained on."""

import inspect
from collections.abc import Mapping
from typing import Any

from anomap.data.anomaly_data import AnomalyData
from anomap.errors import UserError

FIXED = (
    *("image_size", "tile", "tile_overlap", "scale", "scales", "aligned"),
    *("channels", "intensity_range", "bands", "background"),
)  # the weights know no other
_READING = frozenset(inspect.signature(AnomalyData).parameters)


def evaluation_data(trained: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The `data` group to evaluate on: the checkpoint's (`trained`), with what is `given` (and not None) in its place.

    A layout that was chosen (`data=folder`, which has a `name`) replaces all of the checkpoint's. UserError if images would
    be read otherwise than the detector learned.
    """
    chosen = {key: value for key, value in given.items() if value is not None}
    for key in FIXED:
        if key in chosen and chosen[key] != trained.get(key):
            raise UserError(
                f"data.{key}={chosen[key]}: the checkpoint was trained with {trained.get(key)}, and its detector knows "
                f"nothing else; leave data.{key} out"
            )
    layout, folders = "name" in given, chosen.keys() & {"normal_dir", "abnormal_dir"}
    moved = any(chosen.get(key, trained.get(key)) != trained.get(key) for key in ("root", "category"))
    if layout or folders or moved:  # then names of files, and how many to look at, are those of other images
        trained = {key: value for key, value in trained.items() if key not in ("exclude", "limit")}
    reading = {key: value for key, value in {**trained, **chosen}.items() if key in _READING}
    if layout:
        return {**{key: value for key, value in given.items() if key not in _READING}, **reading}
    if folders:
        return {"name": "folder", **chosen, **reading}
    return {**trained, **chosen}
