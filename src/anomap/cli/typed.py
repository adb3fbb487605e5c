"""The command line as people type it: the value of a path key is text, whatever Hydra's grammar or YAML would make of it.

Hydra reads `data.root=2024_11_25` as a number and fails at `data.root=c#d`. Here the values of path keys that it would not
take as they are go into its own quotes, before it sees them; what is in quotes already stays as it is.
"""

import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from anomap.cli.schema import is_path
from anomap.config import QUOTED, quoted
from anomap.errors import UserError

_OVERRIDE = re.compile(r"([+~]*)([A-Za-z_][\w./@-]*)=(.*)", re.DOTALL)
_SWEEPS = ("sweep=", "+sweep=", "hydra.mode=MULTIRUN")
_SWEEPING = re.compile(r"(choice|glob|interval|range|shuffle|sort|tag)\(.*\)", re.DOTALL)  # Hydra's functions
_PIECE = re.compile(rf"({QUOTED}|[^,]*),", re.DOTALL)
_VALUED = re.compile(r"-(c|sc|p|cp|cn|cd)|--(cfg|package|config-\w+)")  # Hydra's flags that a value follows
_NAMES = "data.normal_names"  # a list of folders' names


def with_folder(arguments: Sequence[str]) -> list[str]:
    """`anomap-check DIR`: an argument that is no override and no flag is the folder of `data.root`.

    UserError: there are several.
    """
    follows = [False, *(_VALUED.fullmatch(argument) is not None for argument in arguments[:-1])]
    folders = [
        argument
        for argument, value in zip(arguments, follows, strict=True)
        if not value and argument[:1] not in ("", "-") and _is_folder(argument)
    ]
    if len(folders) > 1:
        whole = shlex.quote(" ".join(folders))
        raise UserError(f"{folders[1]}: give one folder; a path with spaces goes in quotes: {whole}")
    return [f"data.root={argument}" if argument in folders else argument for argument in arguments]


def _is_folder(argument: str) -> bool:
    """Whether it is a folder of images rather than an override."""
    return Path(argument).exists() or not (
        (argument[:1] == "~" and "/" not in argument) or _OVERRIDE.fullmatch(argument)
    )


def is_sweep(arguments: Iterable[str]) -> bool:
    """Whether a command line runs many jobs: by -m, or by a prepared sweep."""
    return any(
        argument in ("-m", "--multirun")
        or (argument.startswith(_SWEEPS) and argument.partition("=")[2] not in ("", "null"))
        for argument in arguments
    )


def for_hydra(arguments: Sequence[str], many: bool | None = None) -> list[str]:
    """Arguments as Hydra has to get them; done twice, they stay as they are. `many`: in a sweep, by default as they say.

    UserError for a value in which the shell cut a path with spaces in two, and for `null` where something has that name.
    """
    many = is_sweep(arguments) if many is None else many
    for one, following in pairwise(arguments):
        found = _OVERRIDE.fullmatch(one)
        if found and is_path(found[2]) and "=" not in following and following[:1] not in ("-", "~", ""):
            whole = shlex.quote(f"{one} {following}")
            raise UserError(f"{following}: not a key=value; a path with spaces goes in quotes: {whole}")
    return [_argument(argument, many) for argument in arguments]


def advice(argument: str) -> str | None:
    """How an override whose value Hydra cannot read is typed in a POSIX shell; None if quotes do not help."""
    found = _OVERRIDE.fullmatch(argument)
    if found is None:
        return None
    try:
        OverridesParser.create().parse_override(better := f"{found[1]}{found[2]}={quoted(found[3])}")
    except HydraException:
        return None
    return shlex.quote(better) if set('"$`\\!') & set(better) else f'"{better}"'


def _argument(argument: str, many: bool) -> str:
    found = _OVERRIDE.fullmatch(argument)
    if found is None:
        return argument
    sign, key, value = found.groups()
    if is_path(key):
        if key.startswith("hydra."):  # which knows no ~, and sweeps over none of its own
            many, value = False, os.path.expanduser(value)
        if value == "null" and Path(value).exists():
            raise UserError(f"{key}=null: means that it is not set; what has this name here is {key}=./null")
        return f"{sign}{key}={_values(value) if many else _text(value)}"
    if key == _NAMES and not set("'\"") & set(value):
        return f"{sign}{key}=" + re.sub(r"[^\[\],]+", lambda name: _text(name[0].strip()), value)
    if "=" in value and not sign and not set("'\"[]{}()\\$") & set(value):
        pieces = _separate(value.split(",")) if many else [value]
        return f"{key}=" + ",".join(quoted(piece) if "=" in piece else piece for piece in pieces)
    return argument


def _values(value: str) -> str:
    """Several values with commas between, unless all of it is a path, or one of Hydra's functions that sweep."""
    if _SWEEPING.fullmatch(value) and _parsed(value) is not None and not Path(value).exists():
        return value
    pieces = _separate(_PIECE.findall(f"{value},"))
    return ",".join(_text(piece if Path(piece).exists() else piece.strip()) for piece in pieces)


def _separate(pieces: Sequence[str]) -> Iterator[str]:
    """The values that were joined with commas; as many pieces together as make an existing path."""
    while pieces:
        ends = range(len(pieces), 1, -1)
        end = next((end for end in ends if Path(os.path.expanduser(",".join(pieces[:end]))).exists()), 1)
        yield ",".join(pieces[:end])
        pieces = pieces[end:]


def _text(value: str) -> str:
    """One value, in quotes unless Hydra takes it as it is; `null` stays, and so does an interpolation that is no path."""
    parsed = _parsed(value)
    if value in ("", "null") or isinstance(parsed, QuotedString):
        return value
    if "${" in value and not Path(os.path.expanduser(value)).exists():
        return value if parsed == value else QuotedString(value, Quote.single).with_quotes()
    return value if isinstance(parsed, str) and parsed == value and "${" not in value else quoted(value)


def _parsed(value: str) -> Any:
    """What Hydra makes of a value; None also where it cannot read it."""
    try:
        return OverridesParser.create().parse_override(f"key={value}")._value
    except HydraException:
        return None
