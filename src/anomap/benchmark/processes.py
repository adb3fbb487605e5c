"""Processes of this Python that know this anomap, wherever they run."""

import os
from pathlib import Path

import anomap


def environment() -> dict[str, str]:
    """The environment for a process that imports the anomap that is running here."""
    here = str(Path(anomap.__file__).resolve().parents[1])
    earlier = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{earlier}" if earlier else here}
