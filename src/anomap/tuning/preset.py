"""A trial's configuration as an experiment preset: the options it chose, and every key that differs from theirs."""

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf


def preset(config: Mapping[str, Any], reference: Mapping[str, Any], options: Mapping[str, str], title: str) -> str:
    """The text of an `experiment/<name>.yaml`.

    Args:
        config: of the trial, plain, interpolations as they are written.
        reference: the same of the options alone.
        options: group -> option.
        title: the first line, without its #.
    """
    defaults = [{f"override /{group}": option} for group, option in sorted(options.items())]
    body = OmegaConf.to_yaml({"defaults": defaults, **difference(config, reference)})
    return f"# @package _global_\n# {title}\n{body}"


def difference(config: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `config` that `reference` lacks or has with another value; lists are compared whole."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and isinstance(reference.get(key), Mapping):
            if inner := difference(value, reference[key]):
                found[key] = inner
        elif key not in reference or reference[key] != value or type(reference[key]) is not type(value):
            found[key] = value
    return found
