"""Versions of what decides the numbers: for the report, and for the key of stored scores."""

import importlib.metadata
import platform
from contextlib import suppress

from anomap import __version__

_PACKAGES = (
    *("torch", "torchvision", "timm", "pytorch-lightning", "hydra-core"),
    *("numpy", "scipy", "scikit-learn", "pillow"),
)


def versions() -> dict[str, str]:
    """Name -> version of anomap, Python and the packages that are installed."""
    found = {"anomap": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):  # an optional one
            found[name] = importlib.metadata.version(name)
    return found
