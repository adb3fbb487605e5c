"""The value of `device=`."""

import os
from pathlib import Path


def device_for(device: str, checkpoint: str | os.PathLike[str]) -> str:
    """`auto` is the first of cuda, mps and cpu that is there, and cpu for an exported file."""
    if device != "auto":
        return device
    if Path(checkpoint).suffix == ".onnx":
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
