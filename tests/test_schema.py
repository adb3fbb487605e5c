"""Every key is one that something reads, also in YAML."""

import subprocess
import sys
from pathlib import Path

import pytest

from anomap.config import config_dir
from anomap.schema import unknown
from tests import tiny


def test_unknown_keys_are_found_where_they_are() -> None:
    reference = {"a": 1, "b": {"c": 2, "_target_": "x"}, "d": {"e": None}}
    config = {"a": {"free": 1}, "b": {"c": 3, "_target_": "y", "own": 4}, "d": {"f": 5, "g": {"_target_": "z"}}, "h": 6}
    assert list(unknown(config, reference)) == ["d.f", "h"]


def start(tmp_path: Path, text: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    """anomap-train with an experiment of the user's own."""
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text(f"# @package _global_\n{text}")
    tiny.write_folder(tmp_path / "data")
    code = "from anomap.commands.entry import train; train()"
    arguments = ["data=folder", f"data.root={tmp_path}/data", "model=control_mean", "experiment=own", "controls=false"]
    return subprocess.run(
        [sys.executable, "-c", code, "--config-dir", str(tmp_path / "mine"), *arguments, *overrides],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("trainer: {max_epoch: 5}", "trainer.max_epoch: no such key; did you mean trainer.max_epochs?"),
        ("sed: 1", "sed: no such key; did you mean seed?"),
        ("model: {image_sizes: 32}", "did you mean model.image_size?"),
    ],
)
def test_a_typo_in_a_preset_is_one_line_and_exit_status_2(text: str, told: str, tmp_path: Path) -> None:
    done = start(tmp_path, text)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_what_lightning_takes_is_known(tmp_path: Path) -> None:
    done = start(tmp_path, "trainer: {limit_train_batches: 2}", "data.image_size=32")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("group", ["experiment", "ablation"])
def test_the_shipped_presets_have_known_keys_only(group: str) -> None:
    """Composed as the command does, beside what the command has without them."""
    reference = tiny.config("model=feature_adgan", "data=elpv")
    for path in sorted((config_dir() / group).glob("*.yaml")):
        config = tiny.config("model=feature_adgan", "data=elpv", f"{group}={path.stem}")
        assert list(unknown(config, reference)) == [], path
