"""Where the configuration lies, how it becomes plain data, and how plain data becomes objects."""

import math
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from omegaconf import DictConfig, OmegaConf

from anomap.errors import UserError

# A configuration may come out of a checkpoint that somebody sent: it may name what lies in these, and nothing else.
ALLOWED_TARGETS = (
    *("anomap.networks.", "anomap.objectives.", "anomap.augmentation."),
    *("torch.nn.", "torch.optim.", "torchvision.models.", "torchmetrics."),
    *("pytorch_lightning.loggers.", "pytorch_lightning.callbacks."),
)

AUTO = "auto"  # of an option that is found out

QUOTED = r"""(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")"""  # text in Hydra's quotes, as a regular expression

# Modules of yours that may be named too, with commas between: ANOMAP_PLUGINS=mine anomap-train model=mine
PLUGINS = "ANOMAP_PLUGINS"


def config_dir() -> Path:
    """The folder of YAML files: inside the package when installed from a wheel, at the top of a checkout otherwise."""
    packaged = Path(__file__).with_name("conf")
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "conf"


def plain(config: DictConfig) -> dict[str, Any]:
    """The configuration with all interpolations resolved, as dicts, lists, strings and numbers only."""
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # pyright: ignore[reportReturnType]


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined with dots, as they are written on the command line."""
    result: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, Mapping) and value
        result |= flat(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return result


def quoted(text: str) -> str:
    """Text in Hydra's quotes, of which Hydra and OmegaConf make that very text."""
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text.replace("${", "\\${"), Quote.single).with_quotes()


def unquoted(value: str) -> str:
    """The value of an override without Hydra's quotes, if it is in such."""
    if not re.fullmatch(QUOTED, value, re.DOTALL):
        return value
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(f"key={value}").value().replace("\\${", "${")  # pyright: ignore
    except HydraException:
        return value


def check_switches(config: Mapping[str, Any], *keys: str) -> None:
    """Raise UserError for the first of these keys that is neither true nor false."""
    for key in keys:
        if not isinstance(config[key], bool):
            raise UserError(f"{key}={config[key]}: give true or false")


def check_whole(key: str, value: Any, least: int, most: int | None = None) -> None:
    """Raise UserError unless the value is a whole number of at least `least`, and at most `most`."""
    if type(value) is not int or value < least or (most is not None and value > most):
        wanted = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise UserError(f"{key}={value}: give a whole number {wanted}")


def check_seed(seed: Any) -> None:
    """Raise UserError unless NumPy and PyTorch take it for a seed."""
    check_whole("seed", seed, 0, 2**32 - 1)


def check_choice(key: str, value: Any, choices: Collection[str]) -> None:
    """Raise UserError unless the value is one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise UserError(f"{key}={value}: give one of {', '.join(choices)}")


def is_number(value: object) -> TypeGuard[float]:
    """Whether the value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def build(node: Mapping[str, Any], **arguments: Any) -> Any:
    """Make the object that a plain configuration with a `_target_` describes.

    UserError for a target that is not allowed, an interpolation (which could hide one), and wrong arguments.
    """
    import hydra.utils
    from hydra.errors import InstantiationException

    for target in targets(node):
        find(target)
    if "${" in repr(node):
        raise UserError(f"{node['_target_']}: holds an interpolation ${{...}}; a plain configuration has none left")
    try:
        return hydra.utils.instantiate(dict(node), **arguments, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        if isinstance(cause, TypeError | ValueError):
            raise UserError(f"{node['_target_']}: {str(cause).splitlines()[0]}") from error
        raise


def targets(node: Any) -> Iterator[str]:
    """Every `_target_` in a plain configuration."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield str(node["_target_"])
        node = list(node.values())
    if isinstance(node, list | tuple):
        for value in node:
            yield from targets(value)


def find(target: str) -> Any:
    """The class or function of a dotted name in `ALLOWED_TARGETS` or the user's plugins; UserError if there is none.

    Both the name and the place where the thing is defined must be allowed: `anomap.networks.blocks.torch.load` is not.
    """
    import hydra.utils

    plugins = (name.strip() for name in os.environ.get(PLUGINS, "").split(","))
    allowed, found = ALLOWED_TARGETS + tuple(f"{name}." for name in plugins if name), None
    if target.startswith(allowed):
        try:
            found = hydra.utils.get_object(target)
        except Exception:  # Hydra wraps whatever the import raised, or refuses by itself
            raise UserError(f"_target_={target}: no such class, or it cannot be imported") from None
    if not f"{getattr(found, '__module__', '')}.".startswith(allowed):
        raise UserError(
            f"_target_={target}: not allowed; a configuration may only name {', '.join(allowed)}, "
            f"and modules that you trust and list in the environment variable {PLUGINS}"
        )
    return found
