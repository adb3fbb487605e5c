"""Shared set-up: one thread, so that results do not depend on the machine's cores."""

import pytest
import torch

pytest_plugins = ["tests.finished"]

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
