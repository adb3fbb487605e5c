"""Under which name scores are kept: a hash of everything that they depend on, versions of packages included."""

import functools
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import anomap
from anomap.config import PLUGINS
from anomap.data.samples import Sample, Scan

# What decides a score, and which pictures are kept beside it. Augmentation changes the weights, but no score.
_CODE = ("config.py", "intervals.py", "data", "detection", "evaluation", "networks", "objectives", "viewing")
_PACKAGES = (
    *("torch", "torchvision", "timm", "pytorch-lightning", "hydra-core"),
    *("numpy", "scipy", "scikit-learn", "pillow"),
)


def versions() -> dict[str, str]:
    """Name -> version of anomap, Python and the packages that are installed."""
    found = {"anomap": anomap.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):  # an optional one
            found[name] = importlib.metadata.version(name)
    return found


def cache_path(checkpoint: str | os.PathLike[str], data: Mapping[str, Any], scan: Scan) -> Path:
    """Where the scores of a test set (`scan`, read with the resolved `data` group) by this checkpoint are kept."""
    path, digest = Path(checkpoint).resolve(), hashlib.blake2b(digest_size=8)
    common = (versions(), _code_digest(os.environ.get(PLUGINS, "")), _content_digest(path, _stamp(path)), dict(data))
    for part in chain(common, (_identity(sample, scan) for sample in scan.test)):
        digest.update(json.dumps(part, sort_keys=True, default=str).encode() + b"\n")
    return path.with_name(f"scores-{digest.hexdigest()}.npz")


def _identity(sample: Sample, scan: Scan) -> list[Any]:
    """What changes when the sample does."""
    known: list[Any] = [sample.name, sample.label, sample.defect]
    if sample.path is None:
        assert scan.pixels is not None, "a layout whose samples have no path must supply pixels"
        return [*known, hashlib.blake2b(scan.pixels(sample).tobytes(), digest_size=8).hexdigest()]
    return [*known, _stamp(sample.path), *([str(mask), _stamp(mask)] for mask in sample.masks)]


def _stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of change; None for a file that is gone, which decoding reports."""
    try:
        return path.stat().st_size, path.stat().st_mtime_ns
    except OSError:
        return None


@functools.lru_cache(maxsize=4)
def _content_digest(path: Path, stamp: tuple[int, int] | None) -> str:
    """Hash of a file's content, made once in a sweep: its `stamp` tells one version from another."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


@functools.cache
def _code_digest(plugins: str) -> str:
    """Hash of the sources that decide what a score is: anomap's, and those of the user's plugins ("mine,yours")."""
    root, digest = Path(anomap.__file__).parent, hashlib.blake2b()
    own = (path for name in _CODE for path in _sources(root / name))
    for path in chain(own, *(_plugin_sources(name.strip()) for name in plugins.split(","))):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _sources(path: Path) -> list[Path]:
    """A file, or all Python files in a folder."""
    return sorted(path.rglob("*.py")) if path.is_dir() else [path]


def _plugin_sources(name: str) -> Iterator[Path]:
    """The files of a module or a package; none if it cannot be found, which whoever imports it reports."""
    try:
        spec = importlib.util.find_spec(name)
    except Exception:  # a plugin's parent package is imported for this, and may raise anything
        return
    if spec is not None:
        file = [spec.origin] if spec.has_location and spec.origin is not None else []
        for place in spec.submodule_search_locations or file:
            yield from _sources(Path(place))
