"""The run's files: whole or absent, and read back as they were written."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from anomap.errors import UserError
from anomap.runs.folder import RunFolder, read_metrics, write_atomically, write_metrics


def test_run_folder_names_the_files_of_the_design(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    names = {path.relative_to(run.path).as_posix() for path in vars(run).values() if path != run.path}
    assert names == {
        *(
            ".hydra/config.yaml",
            "metrics.json",
            "scores.csv",
            "thresholds.csv",
            "estimate.csv",
            "suspicious.csv",
            "checkpoints/last.ckpt",
        ),
        *("tensorboard", "figures", "report.html"),
    }
    assert not run.path.exists()
    assert not run.finished
    write_metrics(run.metrics, {"seed": 0})
    assert run.finished


def test_write_atomically_replaces_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_atomically(path, "première")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_a_failed_write_keeps_the_old_file_and_no_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, "old")

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_written_files_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "file.txt", "")
    finally:
        os.umask(before)
    assert (tmp_path / "file.txt").stat().st_mode & 0o777 == 0o640


def test_metrics_are_flat_json_in_reading_order(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    metrics = {
        "zeta": True,
        "checkpoint": Path("a") / "b.ckpt",
        "alpha": np.float32(0.5),
        "image_auroc": math.nan,
        "image_ap": torch.tensor(0.25),
        "n_train": np.int64(3),
        "threshold": math.inf,
        "pixel_ap": None,
    }
    write_metrics(path, metrics)
    read = read_metrics(path)
    assert list(read) == [
        *("image_auroc", "image_ap", "threshold", "pixel_ap", "n_train", "checkpoint", "alpha", "zeta"),
    ]
    assert list(read.values()) == [None, 0.25, None, None, 3, "a/b.ckpt", 0.5, 1]


@pytest.mark.parametrize("value", [[1], {"a": 1}, (1, 2), object()])
def test_metrics_must_be_flat(tmp_path: Path, value: object) -> None:
    with pytest.raises(TypeError, match="'nested'"):
        write_metrics(tmp_path / "metrics.json", {"nested": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", [None, "{", "[1]", '{"a": {"b": 1}}', "\udcff"])
def test_unreadable_metrics_are_the_users_one_line(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "metrics.json"
    if text is not None:
        path.write_text(text, errors="surrogateescape")
    with pytest.raises(UserError, match=r"metrics\.json") as error:
        read_metrics(path)
    assert "\n" not in str(error.value)
