"""What is wrong with a configuration, told before torch is imported, which takes seconds: unknown keys and wrong paths.

Hydra refuses unknown keys on the command line but accepts them silently in a YAML file. Here every key of the composed
configuration must exist in its command or in the chosen options (`model=…`, `data=…`).
"""

import inspect
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from anomap.config import config_dir, flat
from anomap.data.files import existing_folder
from anomap.errors import UserError, nearest
from anomap.runs.checkpoint_file import checkpoint_file

_PATHS = (
    "checkpoint",
    "input",
    "output",
    "images",
    "resume",
    "study",
    "hydra.sweep.subdir",
    "encoder.weights",
    "data.exclude",
)
_FOLDERS = ("root", "dir", "category")  # ends of keys, also behind a `_`
PRESETS = ("experiment", "ablation", "sweep", "debug")  # groups that only change what others define


def is_path(key: str) -> bool:
    """Whether the values of a key, with dots, are files, folders or their names: text, whatever it looks like."""
    return key in _PATHS or ("." in key and key.rpartition(".")[2].rpartition("_")[2] in _FOLDERS)


def check_keys(config: DictConfig, name: str, choices: Mapping[str, Any]) -> None:
    """Raise UserError, which names the nearest key, for a key of the composed command `name` that nothing reads.

    `choices`: group -> chosen option, as Hydra's `runtime.choices` has them.
    """
    options = [
        f"{group}={choice}"
        for group, choice in choices.items()
        if choice not in (None, "null") and group not in (*PRESETS, "hydra") and not set("@/") & set(group)
    ]
    known = container(compose(name, options))
    for key in unknown(container(config), known):
        parent, _, last = key.rpartition(".")
        # anomap-tune checks its space by itself
        if not key.startswith("space.") and (parent != "trainer" or last not in _trainer_arguments()):
            raise UserError(f"{key}: no such key; {suggestion(key, known, groups_of(name))}")


def check_paths(config: Mapping[str, Any]) -> None:
    """Raise UserError for a path that is no text, and for a checkpoint or a folder of images that is not there.

    `config`: the plain configuration of any command.
    """
    if config.get("resume") is not None:
        return  # the run's own configuration counts
    data = config.get("data", {})
    custom = "." in str(data.get("name"))  # a layout of the user's own, whose keys may be anything
    for key, value in flat(config).items():
        if is_path(key) and not (custom and key.startswith("data.")):
            if not isinstance(value, str | None):
                raise UserError(f"{key}: {value} is no text; where it is set, write it in quotes")
            if value == "" and key not in ("checkpoint", "data.root"):  # these are told below
                raise UserError(f"{key}= is empty: give a path, or {key}=null for none")
    if "checkpoint" in config:
        checkpoint_file(config)
    if custom:
        return
    given = {key: data[key] for key in ("root", "normal_dir", "abnormal_dir") if data.get(key) is not None}
    for key, value in given.items():
        if not Path(os.path.expanduser(value)).exists():
            if "," in value:
                raise UserError(f"data.{key}={value}: does not exist; if several are meant, make it a sweep with -m")
            existing_folder(key, value)
    if data.get("name") in ("folder", "mvtec") and not any(given.values()):
        existing_folder("root", None)


def groups_of(name: str) -> list[str]:
    """The groups in a command's defaults list: those whose options its command line may choose."""
    groups: list[str] = []
    for entry in OmegaConf.load(config_dir() / f"{name}.yaml").defaults:
        if OmegaConf.is_dict(entry):
            groups += [str(key).split()[-1] for key in entry]
        elif entry != "_self_":  # the file of the command that this one extends
            groups += groups_of(entry)
    return groups


def suggestion(key: str, reference: Mapping[str, Any], more: Iterable[str] = ()) -> str:
    """What may have been meant by `key` (with dots), which the plain configuration `reference` does not have.

    The nearest key in the same place; else keys of that name elsewhere; else all keys of the place. `more`: names of
    groups, which belong to the top.
    """
    here: Any = reference
    known, prefix = [*map(str, reference), *more], ""
    for part in key.split("."):
        if isinstance(here, Mapping) and part in here:
            here, prefix = here[part], f"{prefix}{part}."
            known = [*map(str, here)] if isinstance(here, Mapping) else []
            continue
        if close := nearest(part, known):
            return f"did you mean {prefix}{close}?"
        if not known:  # Hydra leaves an empty mapping where it failed to put a key below a value
            return f"{prefix[:-1]} has no keys below"
        if elsewhere := [name for name in flat(reference) if name.rpartition(".")[2] == part]:
            return f"did you mean {' or '.join(sorted(elsewhere, key=lambda name: name.count('.'))[:2])}?"
        break
    return f"known here: {', '.join(name for name in dict.fromkeys(known) if name != 'hydra')}"


def unknown(config: Mapping[str, Any], reference: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Keys of `config` that `reference` does not have.

    A mapping with a `_target_` of its own is a user's part (a fill, a region): its constructor checks its keys.
    """
    for key, value in config.items():
        known, nested = reference.get(key), isinstance(value, Mapping)
        if key not in reference:
            if not (nested and "_target_" in value):
                yield f"{prefix}{key}"
        elif nested and isinstance(known, Mapping) and value.get("_target_") == known.get("_target_"):
            yield from unknown(value, known, f"{prefix}{key}.")


def container(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain dicts and lists, interpolations as they are written."""
    return OmegaConf.to_container(config, resolve=False)  # pyright: ignore[reportReturnType]


def _trainer_arguments() -> set[str]:
    """The arguments of Lightning's Trainer, imported only when a key is in doubt."""
    from pytorch_lightning import Trainer

    return set(inspect.signature(Trainer).parameters)
