"""Every key is one that something reads, also in YAML."""

from pathlib import Path

import pytest

from anomap.cli.schema import unknown
from anomap.config import config_dir
from tests import tiny
from tests.in_process import in_process


def test_unknown_keys_are_found_where_they_are() -> None:
    reference = {"a": 1, "b": {"c": 2, "_target_": "x"}, "d": {"e": None}}
    config = {"a": {"free": 1}, "b": {"c": 3, "_target_": "y", "own": 4}, "d": {"f": 5, "g": {"_target_": "z"}}, "h": 6}
    assert list(unknown(config, reference)) == ["d.f", "h"]


def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, *overrides: str) -> int:
    """Exit status of anomap-train with an experiment of the user's own."""
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text(f"# @package _global_\n{text}")
    tiny.write_folder(tmp_path / "data")
    arguments = ["data=folder", f"data.root={tmp_path}/data", "model=control_mean", "experiment=own", "controls=false"]
    return in_process(["--config-dir", str(tmp_path / "mine"), *arguments, *overrides], tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("trainer: {max_epoch: 5}", "trainer.max_epoch: no such key; did you mean trainer.max_epochs?"),
        ("sed: 1", "sed: no such key; did you mean seed?"),
        ("model: {image_sizes: 32}", "did you mean model.image_size?"),
    ],
)
def test_a_typo_in_a_preset_is_one_line_and_exit_status_2(
    text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert start(tmp_path, monkeypatch, text) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert told in line


@pytest.mark.thorough
def test_what_lightning_takes_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert start(tmp_path, monkeypatch, "trainer: {limit_train_batches: 2}", "data.image_size=32") == 0


@pytest.mark.thorough
@pytest.mark.parametrize("group", ["experiment", "ablation"])
def test_the_shipped_presets_have_known_keys_only(group: str) -> None:
    """Composed as the command does, beside what the command has without them."""
    reference = tiny.config("model=feature_adgan", "data=elpv")
    for path in sorted((config_dir() / group).glob("*.yaml")):
        config = tiny.config("model=feature_adgan", "data=elpv", f"{group}={path.stem}")
        assert list(unknown(config, reference)) == [], path
