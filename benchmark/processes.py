"""Processes of this Python that know this anomap, wherever they run."""

import os
from pathlib import Path

import anomap


def environment() -> dict[str, str]:
    """The environment for a process that imports the anomap that is running here."""
    here = (Path(anomap.__file__).parents[1], Path(__file__).parents[1])  # of anomap, of the benchmark
    earlier = os.environ.get("PYTHONPATH")
    paths = [*(str(path.resolve()) for path in here), *([earlier] if earlier else [])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
