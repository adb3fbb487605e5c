"""Shared set-up: one thread, so that results do not depend on the machine's cores."""

import logging
from collections.abc import Iterator

import pytest
import torch

pytest_plugins = ["tests.finished"]

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    """A command that runs within a test sets the root logger's level; the tests after it, in any order, see the old one."""
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)
