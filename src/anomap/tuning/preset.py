"""A trial's configuration as an experiment preset: the options it chose, and every key that differs from theirs."""

from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf

from anomap.config import flat


def preset(config: Mapping[str, Any], reference: Mapping[str, Any], options: Mapping[str, str], title: str) -> str:
    """The text of an `experiment/<name>.yaml`: `options` (group -> option), and what `config` has beside their `reference`."""
    text = OmegaConf.create({"defaults": [{f"override /{group}": name} for group, name in sorted(options.items())]})
    known = flat(reference)
    for key, value in flat(config).items():
        if key not in known or known[key] != value or type(known[key]) is not type(value):
            OmegaConf.update(text, key, value)
    return f"# @package _global_\n# {title}\n{OmegaConf.to_yaml(text)}"
