"""Which file `checkpoint=...` names, and what is told when it is none."""

from pathlib import Path

import pytest

from anomap.errors import UserError
from anomap.runs.checkpoint_file import checkpoint_file


def asked(command: str, path: object) -> Path:
    return checkpoint_file({"command": command, "checkpoint": None if path is None else str(path)})


@pytest.mark.parametrize("command", ["predict", "evaluate", "export"])
def test_the_file_that_is_there(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "last.ckpt").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert asked(command, "last.ckpt") == Path("last.ckpt")
    assert asked(command, "~/last.ckpt") == tmp_path / "last.ckpt"
    for wrong, message in (
        (None, "checkpoint is not set"),
        ("", "is not set"),
        ("no.ckpt", "checkpoint=no.ckpt: no such"),
    ):
        with pytest.raises(UserError, match=message):
            asked(command, wrong)


def test_an_exported_file_does_for_predictions_only(tmp_path: Path) -> None:
    for name in ("x.onnx", "x.pt2"):
        (tmp_path / name).touch()
        assert asked("predict", tmp_path / name) == tmp_path / name
        with pytest.raises(UserError, match=r"no calibration scores .*give the checkpoints/last\.ckpt"):
            asked("evaluate", tmp_path / name)
        with pytest.raises(UserError, match="is exported already"):
            asked("export", tmp_path / name)


@pytest.mark.parametrize("command", ["predict", "evaluate", "export"])
def test_a_first_stage_names_the_checkpoint_of_its_run(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run" / "stage1" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "last.ckpt").touch()
    whole = tmp_path / "run" / "checkpoints" / "last.ckpt"
    monkeypatch.chdir(folder)
    for given in (folder / "last.ckpt", "last.ckpt", "../checkpoints/last.ckpt"):
        with pytest.raises(UserError, match=f"first stage, not calibrated; give {whole}$"):
            asked(command, given)
