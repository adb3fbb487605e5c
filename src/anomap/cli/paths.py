"""A wrong path is told before torch is imported, which takes seconds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anomap.data.files import existing_folder
from anomap.runs.checkpoint_file import checkpoint_file


def check_paths(config: Mapping[str, Any]) -> None:
    """Raise UserError for a checkpoint or a folder of images that is not there, in a plain configuration of any command."""
    if config.get("resume") is not None:
        return  # the run's own configuration counts
    if "checkpoint" in config:
        checkpoint_file(config)
    data = config.get("data", {})
    if "." in str(data.get("name")):
        return  # a layout of the user's own, whose root may be anything
    for key in ("root", "normal_dir", "abnormal_dir"):
        if (value := data.get(key)) is not None and not Path(value).expanduser().exists():
            existing_folder(key, value)
    if data.get("name") in ("folder", "mvtec") and not any(data.get(k) for k in ("root", "normal_dir", "abnormal_dir")):
        existing_folder("root", None)
