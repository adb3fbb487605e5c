"""Which file `checkpoint=...` names, and where it computes. Imports nothing heavy: a wrong path is told at once."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anomap.errors import UserError
from anomap.runs.folder import RunFolder

# command -> why it needs more than an exported file has
_NEEDS_CHECKPOINT = {
    "evaluate": "an exported file has no calibration scores to choose a threshold from",
    "export": "is exported already",
    "calibrate": "an exported file cannot be calibrated anew",
}


def checkpoint_file(config: Mapping[str, Any]) -> Path:
    """The file of `config["checkpoint"]`, for the command that `config["command"]` names.

    UserError if it is not set, not there, exported where that does not do, or a run's first stage alone.
    """
    given, why = config["checkpoint"], _NEEDS_CHECKPOINT.get(config["command"])
    known = f"a run's checkpoints/last.ckpt{'' if why else ' or an exported .onnx'}"
    if not given:
        raise UserError(f"checkpoint is not set: give checkpoint=CKPT, {known}")
    path = Path(os.path.expanduser(given))
    if why and path.suffix in (".onnx", ".pt2"):
        raise UserError(f"checkpoint={given}: {why}; give the checkpoints/last.ckpt that it was made of")
    if not path.is_file():
        raise UserError(f"checkpoint={given}: no such file; give {known}")
    folder = path.resolve().parent.parent
    if folder.name == "stage1" and path.resolve().parent.name == "checkpoints":
        whole = RunFolder(folder.parent).last_checkpoint
        raise UserError(f"checkpoint={given}: a run's first stage, not calibrated; give {whole}")
    return path


def check_place(path: Path) -> None:
    """UserError unless a file can be written there: its folder is there, and takes it."""
    if not path.parent.is_dir():
        raise UserError(f"output={path}: there is no folder {path.parent}; make it, or give another output=FILE")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"output={path}: the folder cannot be written to; give another output=FILE")


def device_for(device: str, checkpoint: str | os.PathLike[str]) -> str:
    """The value of `device=`: `auto` is the first of cuda, mps and cpu that is there, and cpu for an exported file."""
    if device != "auto":
        return device
    if Path(checkpoint).suffix == ".onnx":
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
