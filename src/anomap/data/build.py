"""A run's data from the plain `data` group of a config."""

import inspect
from collections.abc import Mapping
from typing import Any

from anomap.data.anomaly_data import AnomalyData, Augmentation
from anomap.data.layouts.named import build_layout, hint, layout_class
from anomap.errors import UserError

_NOT_IN_CONFIG = {"layout", "augmentation", "seed", "stride"}


def build_data(
    config: Mapping[str, Any], augmentation: Augmentation | None = None, seed: int = 0, stride: int = 1
) -> AnomalyData:
    """Build the data of a config; the other arguments are those of `AnomalyData`.

    `config["name"]` chooses the layout (`layout_class`). Other keys are options of that layout and of `AnomalyData`;
    `exclude` leaves out what a list names, whatever the layout. UserError: a wrong value, or an unknown (the nearest is
    named) or missing key.
    """
    options = dict(config)
    name = options.pop("name", None)
    make = layout_class(name)
    layout_keys, parameters = inspect.signature(make).parameters, inspect.signature(AnomalyData).parameters
    module_keys = parameters.keys() - _NOT_IN_CONFIG
    known = sorted(layout_keys.keys() | module_keys | {"exclude"})
    for key in options:
        if key not in known:
            raise UserError(f"data={name} has no key {key}{hint(key, known)}; its keys: {', '.join(known)}")
    for key in sorted(module_keys - options.keys()):
        if parameters[key].default is inspect.Parameter.empty:
            raise UserError(f"data.{key} is not set: give data.{key}=...")
    module = {key: options[key] for key in options if key in module_keys}
    return AnomalyData(build_layout(config), augmentation=augmentation, seed=seed, stride=stride, **module)
