"""What may be configured: the YAML files of the chosen options say it themselves, so there is no second list to keep.

Hydra refuses unknown keys on the command line, and takes them silently in a YAML file. Here every key of the composed
configuration must be one that its command and the chosen options (`model=…`, `data=…`) have; the nearest is suggested.
"""

import difflib
import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from anomap.errors import UserError

PRESETS = ("experiment", "ablation", "sweep")  # groups that only change what others define


def check_keys(config: DictConfig, name: str, choices: Mapping[str, Any]) -> None:
    """Refuse a key that nothing reads.

    Args:
        config: of the command `name`, composed.
        name: of the command, as `conf/<name>.yaml`.
        choices: group -> chosen option, as Hydra's `runtime.choices` has them.

    Raises:
        UserError: a key that is not known; the nearest known one is named.
    """
    groups = {
        group: choice
        for group, choice in choices.items()
        if choice not in (None, "null") and group not in PRESETS and not set("@/") & set(group)
    }
    reference = compose(name, [f"{group}={choice}" for group, choice in groups.items() if group != "hydra"])
    for key, known in unknown(_container(config), _container(reference)):
        parent, _, last = key.rpartition(".")
        if parent == "trainer" and last in _trainer_arguments():
            continue
        close = difflib.get_close_matches(last, known, 1, cutoff=0.5)
        hint = f"did you mean {parent and parent + '.'}{close[0]}?" if close else f"known here: {', '.join(known)}"
        raise UserError(f"{key}: no such key; {hint}")


def unknown(
    config: Mapping[str, Any], reference: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, list[str]]]:
    """Keys of `config` that `reference` has not, each with those that it has in that place.

    A new mapping with a `_target_` is a part of somebody's own (a fill, a region): its constructor checks its keys.
    """
    for key, value in config.items():
        if key not in reference:
            if not (isinstance(value, Mapping) and "_target_" in value):
                yield f"{prefix}{key}", [str(name) for name in reference]
        elif isinstance(value, Mapping) and isinstance(reference[key], Mapping):
            own = value.get("_target_") != reference[key].get("_target_")
            if not own:
                yield from unknown(value, reference[key], f"{prefix}{key}.")


def _container(config: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(config, resolve=False)  # pyright: ignore[reportReturnType]


def _trainer_arguments() -> set[str]:
    """What Lightning's Trainer takes; imported only when a key is in doubt."""
    from pytorch_lightning import Trainer

    return set(inspect.signature(Trainer).parameters)
