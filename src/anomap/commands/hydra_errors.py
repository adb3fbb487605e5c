"""Hydra's complaints about a command line in one line each, with the nearest name that exists."""

import re
from pathlib import PurePosixPath

from hydra.errors import ConfigCompositionException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from anomap.schema import container, groups_of, nearest, suggestion


def explain(error: Exception, command: str) -> str | None:
    """What was wrong with the command line or a preset, and what may have been meant.

    Args:
        error: what composing the configuration raised.
        command: whose configuration it was, as `conf/<command>.yaml`.

    Returns:
        One line, or None for an error that says enough by itself.
    """
    if isinstance(error, MissingConfigException):
        return _no_such_option(error, command)
    if not isinstance(error, ConfigCompositionException):
        return None
    text = str(error)
    if text.startswith("Ambiguous value"):
        return f"{text.splitlines()[0]}; several values make a sweep: anomap-{command} -m ...; a list is written [a,b]"
    if (found := re.match(r"Could not override '([^']+)'\. No match in the defaults list", text)) is not None:
        groups = [group for group in groups_of(command) if group != "hydra"]
        return f"{found[1]}: anomap-{command} has no such group; known: {', '.join(groups)}"
    return _no_such_key(error, command)


def _no_such_option(error: MissingConfigException, command: str) -> str | None:
    """`model=adgn`, where the group has no such option."""
    path = PurePosixPath(error.missing_cfg_file or "")
    if not error.options:
        return None
    close = nearest(path.name, error.options)
    hint = f"did you mean {path.parent}={close}? " if close else ""
    asked = re.match(r"In '([^']+)'", str(error))
    where = f"in {asked[1]}: " if asked and asked[1] not in (command, "hydra/config") else ""
    return f"{where}{path.parent}={path.name}: no such option; {hint}known: {', '.join(error.options)}"


def _no_such_key(error: ConfigCompositionException, command: str) -> str | None:
    """`trainer.max_epoch=5`; OmegaConf's error, which is the cause, knows the configuration it looked in."""
    found = re.match(r"Could not override '([^'@]+)'", str(error))
    cause = error.__cause__
    if found is None or not isinstance(cause, OmegaConfBaseException) or cause.parent_node is None:
        return None
    root = cause.parent_node._get_root()
    if not OmegaConf.is_dict(root):
        return None
    return f"{found[1]}: no such key; {suggestion(found[1], container(root), groups_of(command))}"
