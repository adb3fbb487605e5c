"""A detector in a file: plain containers and tensors only, so that it loads with `weights_only=True`.

The section `anomap` of a checkpoint holds `format`, `version`, `config` (the run's whole configuration) and `state` (the
model's tensors). The rest, if any, is needed only to resume the training.
"""

import os
import pickle
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from anomap import __version__
from anomap.config import build
from anomap.data.checks import check_image_size
from anomap.data.tiles import tiling_of
from anomap.detection.scoring import ScoringModel
from anomap.detection.standardise import Standardiser
from anomap.errors import UserError
from anomap.runs.folder import write_atomically

FORMAT = 2  # 1: thresholds whose promise did not hold
SECTION = "anomap"


def section(model: ScoringModel, config: Mapping[str, Any]) -> dict[str, Any]:
    """What `load_model` needs to make this model again."""
    return {"format": FORMAT, "version": __version__, "config": dict(config), "state": model.state_dict()}


def save(path: str | os.PathLike[str], checkpoint: Mapping[str, Any]) -> None:
    """Write a checkpoint whole or not at all; raises UserError if the disk or the folder does not take it."""
    buffer = BytesIO()
    torch.save(dict(checkpoint), buffer)
    try:
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); the previous one is kept") from error


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read any checkpoint of anomap; UserError if there is none, or it is damaged, something else, or holds code."""
    if not Path(path).is_file():
        raise UserError(f"{path}: no such checkpoint; give the path of a run's checkpoints/last.ckpt")
    try:
        with zipfile.ZipFile(path):  # a bare pickle is never ours
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: refused: it holds more than tensors and plain values (it could run code)") from error
    except Exception as error:  # a damaged file may raise anything
        raise UserError(f"{path}: not a readable checkpoint (truncated, or another kind of file)") from error
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path}: not a checkpoint of anomap")
    return checkpoint


def load_model(path: str | os.PathLike[str], device: str = "cpu") -> tuple[ScoringModel, dict[str, Any]]:
    """The model of a checkpoint, ready to score on a device, and the configuration of the run that made it.

    UserError as `read`, and for a training without its end, another format, or a device that is not here.
    """
    found = read(path).get(SECTION)
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no finished detector; its training did not come to its end")
    if found.get("format") == 1:
        raise UserError(
            f"{path}: from an older anomap ({found.get('version')}), whose threshold gives more false alarms than it "
            "promised; train again"
        )
    if found.get("format") != FORMAT:
        raise UserError(f"{path}: checkpoint format {found.get('format')}, this anomap {__version__} reads {FORMAT}")
    try:
        config = found["config"]
        node, size = config["model"]["objective"], check_image_size(config["data"]["image_size"])
        tiling = tiling_of(config["data"])
        state = dict(found["state"])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its configuration or its tensors are missing; the file is damaged") from error
    if tiling is not None:
        size = (tiling.tile, tiling.tile)
    model = ScoringModel(build(node), size, tiling, float(config["data"].get("scale", 1.0)))
    for name, empty in model.places.state_dict(prefix="places.").items():
        state.setdefault(name, empty)  # older versions compared no places
    if state["places.level"].numel():
        model.standardiser = Standardiser(1)
    model.contamination = float(config["data"].get("contamination", 0.0))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"{path}: its tensors do not fit its own configuration; the file is damaged") from error
    model.place(device)
    return model, config
