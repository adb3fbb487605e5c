"""A command as it is typed, in this process: a process of its own would take five seconds to start."""

import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from anomap.cli import runner


def in_process(arguments: list[str], folder: Path | str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Exit status of `anomap-train <arguments>`, run in `folder/run`, or in the folder that a text names."""
    place = folder if isinstance(folder, str) else folder / "run"
    monkeypatch.setattr(sys, "argv", ["anomap-train", *arguments, f"hydra.run.dir={place}"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")
    monkeypatch.setattr(runner, "keep_memory", lambda: None)
    GlobalHydra.instance().clear()
    try:
        runner.run("train")
    except SystemExit as stopped:
        return int(stopped.code or 0)
    finally:
        GlobalHydra.instance().clear()
    return 0
