"""Fixtures: one tiny run of every kind, made once per process and read by all tests."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from anomap.commands.train import train
from anomap.runs.folder import RunFolder
from tests import tiny


@dataclass
class Run:
    """A finished run."""

    config: dict[str, Any]
    folder: RunFolder
    metrics: dict[str, Any]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder data set with masks: 20 normal for training, 4 normal and 3 abnormal for testing."""
    return tiny.write_folder(tmp_path_factory.mktemp("data"))


class Runs:
    """Trains what is asked for, once."""

    def __init__(self, data: Path, outputs: Path) -> None:
        self.data, self.outputs = data, outputs
        self._made: dict[tuple[str, ...], Run] = {}

    def __call__(self, *overrides: str) -> Run:
        if overrides not in self._made:
            config = tiny.config(*overrides, f"data.root={self.data}")
            folder = self.outputs / str(len(self._made))
            self._made[overrides] = Run(config, RunFolder(folder), train(config, folder))
        return self._made[overrides]


@pytest.fixture(scope="session")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """`runs("model=ganomaly")` is a finished run of it."""
    return Runs(data, tmp_path_factory.mktemp("runs"))
