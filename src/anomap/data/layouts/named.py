"""Which layout `data.name` means, without `AnomalyData`, which needs torch."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from anomap.config import find
from anomap.data.exclusion import excluding, read_exclusion
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


def layout_class(name: Any) -> Callable[..., Layout]:
    """A value of `LAYOUTS`, or your own class by its dotted name; UserError if there is none."""
    make = find(str(name)) if "." in str(name) else LAYOUTS.get(name)
    if make is None:
        raise UserError(f"data.name={name}: use one of {', '.join(LAYOUTS)}{hint(str(name), LAYOUTS)}")
    return make


def build_layout(config: Mapping[str, Any]) -> Layout:
    """That of a plain `data` group whose keys are known, without what its `exclude` lists; UserError: a wrong value."""
    make = layout_class(config.get("name"))
    known = inspect.signature(make).parameters.keys() - {"name"}
    options = {key: value for key, value in config.items() if key in known}
    exclusion = read_exclusion(config.get("exclude"), config.get("root"))
    if "exclude" in known:  # it accounts for all of its files by itself
        return make(**{**options, "exclude": exclusion})
    return excluding(make(**options), exclusion)


def hint(wrong: str, known: Iterable[str]) -> str:
    """The end of a message."""
    return f" (did you mean {close}?)" if (close := nearest(wrong, known)) else ""
