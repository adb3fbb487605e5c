"""The start of every command: what becomes of its arguments."""

import subprocess
import sys
from pathlib import Path

import pytest

from anomap.cli.runner import quoted


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("seed=0", "seed=0"),
        ("checkpoint=out/seed=0/last.ckpt", "checkpoint='out/seed=0/last.ckpt'"),
        ("checkpoint=out/model=a,seed=0/last.ckpt", "checkpoint='out/model=a,seed=0/last.ckpt'"),
        ("checkpoint='a/seed=0/x'", "checkpoint='a/seed=0/x'"),
        ("data.intensity_range=[0,1]", "data.intensity_range=[0,1]"),
        ("-m", "-m"),
        ("--config-dir=a=b", "--config-dir=a=b"),
        ("+extra.key=a=b", "+extra.key=a=b"),
    ],
)
def test_values_with_an_equals_sign_are_quoted_for_hydra(given: str, expected: str) -> None:
    assert quoted(given) == expected


def test_in_a_sweep_commas_part_values() -> None:
    assert quoted("checkpoint=a/seed=0/x,b", many=True) == "checkpoint='a/seed=0/x',b"


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
