"""What an installation takes on disk."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

import anomap
from benchmark.installed import closure, size, sizes


def test_requirements_of_requirements_count_and_those_of_extras_only_if_asked() -> None:
    found = closure(["anomap"])
    assert {"anomap", "hydra-core", "antlr4-python3-runtime", "torch", "numpy"} <= found.keys()
    assert "pytest" not in found
    assert "pytest" in closure(["anomap[dev]"])


def test_what_torch_brings_is_left_out() -> None:
    whole, own = sizes("anomap")
    assert size(closure(["torch"]).values()) < whole
    assert size([closure(["scipy"])["scipy"]]) < own < whole / 2


def test_in_place_means_the_files_of_the_package() -> None:
    files = sum(path.stat().st_size for path in Path(anomap.__file__).parent.rglob("*.py"))
    assert size([closure(["anomap"])["anomap"]]) >= files / 1e6


def test_what_is_not_there_has_no_size() -> None:
    with pytest.raises(PackageNotFoundError):
        sizes("no-such-package-anywhere")
