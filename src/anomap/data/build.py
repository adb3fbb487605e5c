"""A datamodule from the plain `data` group of a config."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from anomap.config import find
from anomap.data.datamodule import AnomalyDataModule, Augmentation
from anomap.data.layouts.elpv import ElpvLayout
from anomap.data.layouts.fashion_mnist import FashionMnistLayout
from anomap.data.layouts.folder import FolderLayout, MVTecLayout
from anomap.data.samples import Layout
from anomap.errors import UserError, nearest

LAYOUTS: dict[str, Callable[..., Layout]] = {
    "folder": FolderLayout,
    "elpv": ElpvLayout,
    "mvtec": MVTecLayout,
    "fashion_mnist": FashionMnistLayout,
}
_NOT_IN_CONFIG = {"layout", "augmentation", "seed", "stride"}


def build_datamodule(
    config: Mapping[str, Any], augmentation: Augmentation | None = None, seed: int = 0, stride: int = 1
) -> AnomalyDataModule:
    """Build the datamodule of a config; the other arguments are those of `AnomalyDataModule`.

    `config["name"]` chooses the layout: a key of `LAYOUTS`, or the dotted name of your own class. Other keys are options of
    that layout and of `AnomalyDataModule`. UserError: a wrong value, or an unknown (the nearest is named) or missing key.
    """
    options = dict(config)
    name = options.pop("name", None)
    make = find(str(name)) if "." in str(name) else LAYOUTS.get(name)
    if make is None:
        raise UserError(f"data.name={name}: use one of {', '.join(LAYOUTS)}{_hint(str(name), LAYOUTS)}")
    layout_keys, parameters = inspect.signature(make).parameters, inspect.signature(AnomalyDataModule).parameters
    module_keys = parameters.keys() - _NOT_IN_CONFIG
    known = sorted(layout_keys.keys() | module_keys)
    for key in options:
        if key not in known:
            raise UserError(f"data={name} has no key {key}{_hint(key, known)}; its keys: {', '.join(known)}")
    for key in sorted(module_keys - options.keys()):
        if parameters[key].default is inspect.Parameter.empty:
            raise UserError(f"data.{key} is not set: give data.{key}=...")
    layout, module = ({key: options[key] for key in options if key in keys} for keys in (layout_keys, module_keys))
    return AnomalyDataModule(make(**layout), augmentation=augmentation, seed=seed, stride=stride, **module)


def _hint(wrong: str, known: Iterable[str]) -> str:
    return f" (did you mean {close}?)" if (close := nearest(wrong, known)) else ""
