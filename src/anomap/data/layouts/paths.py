"""Folders that the user names."""

import os
from pathlib import Path

from anomap.errors import UserError


def existing_folder(key: str, value: str | os.PathLike[str] | None) -> Path:
    """The folder that the option `data.<key>` names.

    Raises:
        UserError: it is not set, not there, or not a folder.
    """
    if value is None or str(value) == "":
        raise UserError(f"data.{key} is not set: name the folder with data.{key}=DIR")
    folder = Path(value).expanduser()
    if not folder.is_dir():
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"data.{key}={value}: {folder.absolute()} {problem}; check the path")
    return folder
