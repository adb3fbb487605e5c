"""The examples of docs/extending.md do what they say: each is written to files and its command run."""

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.utils import get_object

from anomap.config import find
from anomap.data.build import build_data
from anomap.errors import UserError
from anomap.runs.folder import RunFolder, read_metrics
from tests import tiny

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")
SMALL = ["data.image_size=32", "data.channels=1", "data.batch_size=8", "trainer.max_epochs=1", "logger=none"]


def example(title: str) -> dict[str, str]:
    """The code of a section: file name (or `command`) -> text."""
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    found = {}
    for language, code in re.findall(r"```(\w+)\n(.*?)```", section, flags=re.DOTALL):
        found["command" if language == "bash" else code.splitlines()[0].removeprefix("# ")] = code
    return found


def write(files: dict[str, str], folder: Path) -> None:
    for name, text in files.items():
        if name != "command":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder data set that also has a table."""
    root = tiny.write_folder(tmp_path_factory.mktemp("data"))
    with (root / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "split"])
        for path in sorted(root.glob("t*/*/*.png")):
            split, kind, _ = path.relative_to(root).parts
            table.writerow([path.relative_to(root), "normal" if kind.startswith("0") else "abnormal", split])
    return root


@pytest.mark.slow
@pytest.mark.parametrize("title", ["A model", "An augmentation", "A data set", "A callback"])
def test_an_example_trains(title: str, data: Path, tmp_path: Path) -> None:
    files = example(title)
    write(files, tmp_path)
    program, *arguments = shlex.split(files["command"].replace("DIR", str(data)))
    assert program == "anomap-train"
    runner = "from anomap.cli.entry import train; train()"
    environment = {
        **os.environ,
        "ANOMAP_PLUGINS": "mine",
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path('src').resolve()}",
    }
    command = [sys.executable, "-c", runner, *arguments, *SMALL, f"hydra.run.dir={tmp_path / 'run'}"]
    subprocess.run(command, check=True, cwd=tmp_path, env=environment)
    assert read_metrics(RunFolder(tmp_path / "run").metrics)["n_test_abnormal"] == 3


def test_a_class_of_ones_own_must_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write({"mine_layout.py": example("A data set")["mine.py"]}, tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    config = {"name": "mine_layout.Listed", "root": str(tmp_path), "image_size": 32, "channels": 1, "batch_size": 4}
    with pytest.raises(UserError, match="ANOMAP_PLUGINS"):
        build_data(config)
    monkeypatch.setenv("ANOMAP_PLUGINS", "other, mine_layout")
    layout = build_data(config).layout
    assert type(layout) is get_object("mine_layout.Listed")
    with pytest.raises(UserError, match="not allowed"):
        find("mine_layout.csv.DictReader")  # reached through the module, but not its own
