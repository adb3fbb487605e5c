"""Checkpoints: whole or not at all, tensors and plain values only, and the same detector again."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from anomap.detection import checkpoint
from anomap.detection.scoring import ScoringModel
from anomap.errors import UserError
from tests import tiny


def calibrated(model: str = "ganomaly", **batch: Any) -> tuple[ScoringModel, dict[str, Any]]:
    config = tiny.config(f"model={model}")
    made = ScoringModel(tiny.busy(tiny.objective(model)), (tiny.SIZE, tiny.SIZE))
    made.calibrate([{"image": tiny.textures(6, seed=1)}])
    made.set_threshold({"strategy": "quantile", "quantile": 0.8})
    made.place("cpu")  # in the memory format that a checkpoint is loaded in
    return made, config


def saved(folder: Path, model: str = "ganomaly") -> tuple[Path, ScoringModel]:
    made, config = calibrated(model)
    path = folder / "checkpoints" / "last.ckpt"
    checkpoint.save(path, {checkpoint.SECTION: checkpoint.section(made, config)})
    return path, made


@pytest.mark.parametrize("model", tiny.MODELS)
def test_round_trip(model: str, tmp_path: Path) -> None:
    """Everything that scoring needs comes back, for every method: weights, closed-form statistics, thresholds."""
    path, made = saved(tmp_path, model)
    loaded, config = checkpoint.load_model(path)
    assert config["model"]["name"] == model
    assert not any(part.training for part in loaded.modules())
    images = (tiny.textures(3, seed=2) * 255).to(torch.uint8)
    with torch.no_grad():
        for again, first in zip(loaded(images), made(images), strict=True):
            assert torch.equal(again, first)
    assert loaded.threshold == made.threshold
    assert loaded.pixel_threshold == made.pixel_threshold
    assert loaded.map_scale == made.map_scale
    assert torch.equal(loaded.calibration.scores, made.calibration.scores)
    assert torch.equal(loaded.calibration.scaling, made.calibration.scaling)
    torch.testing.assert_close(loaded.calibration.statistics, made.calibration.statistics, equal_nan=True)
    kernels = [value for value in loaded.state_dict().values() if value.dim() == 4]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def test_an_old_checkpoint_is_told_from_a_new_one(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "control_mean")
    content = torch.load(path, weights_only=True)
    content["anomap"] |= {"format": 1, "version": "0.1.0"}
    torch.save(content, path)
    with pytest.raises(UserError, match=r"last\.ckpt: from an older anomap \(0\.1\.0\).*train again"):
        checkpoint.load_model(path)


@pytest.mark.thorough
def test_it_loads_with_weights_only_in_a_fresh_process(tmp_path: Path) -> None:
    path, made = saved(tmp_path)
    script = (
        "import sys, torch\n"
        "state = torch.load(sys.argv[1], weights_only=True)['anomap']\n"
        "assert not any(name.startswith('anomap') for name in sys.modules)\n"
        "print(float(state['state']['calibration.threshold']))\n"
    )
    result = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert float(result.stdout) == made.threshold


def test_a_write_that_fails_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = saved(tmp_path)
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"last\.ckpt: .*No space left.*previous one is kept"):
        checkpoint.save(path, {"other": torch.zeros(3)})
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


class Payload:
    """Runs a command when unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def test_a_checkpoint_with_code_in_it_is_refused_in_one_line(tmp_path: Path) -> None:
    path, marker = tmp_path / "evil.ckpt", tmp_path / "ran"
    torch.save({"anomap": Payload(marker)}, path)
    with pytest.raises(UserError, match=r"evil\.ckpt: refused") as raised:
        checkpoint.load_model(path)
    assert "\n" not in str(raised.value)
    assert not marker.exists()


@pytest.mark.parametrize(
    "objective",
    [
        {"_target_": "os.system", "command": "touch {marker}"},
        {"_target_": "anomap.runs.folder.write_atomically", "path": "{marker}", "content": "x"},
        {"_target_": "anomap.cli.runner.os.mkdir", "path": "{marker}"},
        {
            "_target_": "anomap.objectives.controls.PCAError",
            "components": "${oc.create:{_target_:os.mkdir,path:'{marker}'}}",
        },
    ],
    ids=["plain", "own function", "through a module", "interpolation"],
)
def test_a_configuration_that_names_code_is_refused_too(objective: dict[str, str], tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    made, config = calibrated()
    config["model"]["objective"] = {key: text.replace("{marker}", str(marker)) for key, text in objective.items()}
    path = tmp_path / "evil.ckpt"
    checkpoint.save(path, {checkpoint.SECTION: checkpoint.section(made, config)})
    with pytest.raises(UserError):
        checkpoint.load_model(path)
    assert not marker.exists()


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [
        _truncated,
        _flipped,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("not a checkpoint\n"),
        lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20),
        lambda path: path.write_bytes(b"\x80\x02}q\x00X\x04"),
        lambda path: torch.save([1, 2], path),
        lambda path: torch.save({"state_dict": {}}, path),
        lambda path: torch.save({"anomap": {"format": 99}}, path),
        lambda path: torch.save({"anomap": {"format": 1, "version": "0.1"}}, path),
        lambda path: torch.save({"anomap": {"format": checkpoint.FORMAT}}, path),
        lambda path: torch.save({"anomap": {"format": checkpoint.FORMAT, "config": {"model": 3}, "state": {}}}, path),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=[
        *("truncated", "zeros", "empty", "text", "image", "pickle", "list", "unfinished", "newer"),
        *("older", "no config", "odd config", "missing", "folder"),
    ],
)
def test_anything_else_is_refused_in_one_line(spoil: Any, tmp_path: Path) -> None:
    path, _ = saved(tmp_path, "control_mean")
    spoil(path)
    with pytest.raises(UserError, match=r"last\.ckpt") as raised:
        checkpoint.load_model(path)
    assert "\n" not in str(raised.value)


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    made, config = calibrated()
    section = checkpoint.section(made, config)
    section["state"] = {name: tensor for name, tensor in section["state"].items() if "encoder2" not in name}
    checkpoint.save(tmp_path / "odd.ckpt", {checkpoint.SECTION: section})
    with pytest.raises(UserError, match=r"odd\.ckpt.*damaged"):
        checkpoint.load_model(tmp_path / "odd.ckpt")
