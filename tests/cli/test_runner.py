"""The start of every command: what becomes of its arguments."""

import subprocess
import sys
from pathlib import Path

import pytest


def test_values_of_a_prepared_sweep_stay_a_list(tmp_path: Path) -> None:
    """Two folders with `=` in their names are two jobs, not one folder of that name."""
    code = "from anomap.cli.entry import evaluate; evaluate()"
    arguments = ["sweep=thresholds", "checkpoint=a/x=1/last.ckpt,a/x=2/last.ckpt", f"hydra.sweep.dir={tmp_path}/sweep"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "threshold.quantile=0.9"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    reasons = [path.read_text() for path in (tmp_path / "sweep").glob("*/error.txt")]
    assert sorted(reasons) == [
        f"checkpoint=a/x={n}/last.ckpt: no such file; give a run's checkpoints/last.ckpt\n" for n in (1, 2)
    ]


IN_ONE_PROCESS = """
import sys
from hydra.core.global_hydra import GlobalHydra
from anomap.cli import entry
for line in sys.argv[1:]:
    command, *arguments = line.split("|")
    sys.argv = [command, *arguments]
    try:
        getattr(entry, command)()
    except SystemExit as end:
        print(end.code, "torch" in sys.modules)
    GlobalHydra.instance().clear()
"""


@pytest.mark.thorough
def test_a_wrong_path_is_told_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").touch()
    wrong = {
        "predict|checkpoint=none.ckpt|input=.": "checkpoint=none.ckpt: no such file",
        "predict|checkpoint=x.ckpt|input=nowhere": "input=nowhere: no such file or folder",
        "predict|input=.": "checkpoint is not set",
        "evaluate|checkpoint=none.ckpt": "checkpoint=none.ckpt: no such file",
        "evaluate|checkpoint=x.ckpt|data.normal_dir=nowhere": "data.normal_dir=nowhere",
        "export|checkpoint=none.ckpt": "checkpoint=none.ckpt: no such file",
        "train|data=folder|data.root=nowhere": "data.root=nowhere",
        "train|data=folder": "data.root is not set",
        "check|nowhere": "data.root=nowhere",
        "check|.|nowhere": "nowhere: give one folder",
        "calibrate|checkpoint=none.ckpt|data.root=.": "checkpoint=none.ckpt: no such file",
        "preview|data=mvtec|data.root=nowhere|data.category=bottle": "data.root=nowhere",
    }
    lines = [f"{line}|hydra.run.dir={tmp_path}/run" for line in wrong]
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS, *lines], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.stdout.splitlines() == ["2 False"] * len(wrong), done.stderr
    for told, expected in zip(done.stderr.splitlines(), wrong.values(), strict=True):
        assert told.startswith(f"error: {expected}")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["predict", "checkpoint=runs/seed=0/none.ckpt", "input=."], "runs/seed=0/none.ckpt"),
        (["evaluate", "checkpoint=x.ckpt", "threshold=3.5"], "threshold.value=3.5"),
    ],
)
def test_one_line_and_exit_status_2(arguments: list[str], told: str, tmp_path: Path) -> None:
    name, *overrides = arguments
    code = f"from anomap.cli.entry import {name}; {name}()"
    done = subprocess.run(
        [sys.executable, "-c", code, *overrides, f"hydra.run.dir={tmp_path}/run"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
