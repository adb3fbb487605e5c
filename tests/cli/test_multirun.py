"""Sweeps: safe and stable folders, restarts that repeat nothing, failures that stop nothing, prepared sweeps."""

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from anomap.cli.multirun import failures, folder_name, several_processes
from anomap.config import build, config_dir, flat, plain
from anomap.runs.folder import read_metrics
from anomap.runs.jobs import ERROR
from tests import tiny

CONF = config_dir()
ABLATIONS = sorted(path.stem for path in (CONF / "ablation").glob("*.yaml"))
SWEEPS = sorted(path.stem for path in (CONF / "sweep").glob("*.yaml"))


# --- folders ---


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["model=adgan", "seed=0"], "model=adgan,seed=0"),
        (["data.image_size=32", "seed=0", "+x=1e-3"], "seed=0,+x=1e-3,data.image_size=32"),
        (["sweep=seeds", "seed=1"], "seed=1"),
        (["seed=0", "seed=1"], "seed=1"),
        ([], "defaults"),
    ],
)
def test_a_folder_is_called_after_the_overrides(overrides: list[str], name: str) -> None:
    assert folder_name(overrides) == name
    assert folder_name(overrides[:1] + overrides[1:][::-1]) == name or overrides[0] == "seed=0"


NASTY = [
    "data.root=/a/b",
    "data.root=/a_b",
    "data.root=_a_b",
    "data.root=../../b",
    "data.root=..",
    "data.image_size=[32,64]",
    "data.image_size=[32_64]",
    "x='a,b=c'",
    "x=a,b=c",
    "x={a:1}",
    "x=",
    "x=ü",
    "x=u",
    "x=a b",
    "x=a\nb",
    "x=" + "long" * 100,
    "x=" + "long" * 101,
    "+x=1",
    "~x",
]


def test_different_combinations_never_share_a_folder_and_stay_inside(tmp_path: Path) -> None:
    names = [folder_name([*extra, line]) for line in NASTY for extra in ([], ["seed=0"], ["seed=1"])]
    assert len(set(names)) == len(names)
    for name in names:
        (tmp_path / name).mkdir()
        assert (tmp_path / name).resolve().parent == tmp_path.resolve()
        assert len(name) <= 100
        assert name.isascii()
        assert "/" not in name
    assert folder_name(["data.root=/a/b"]) == folder_name(["data.root=/a/b"])
    assert folder_name(["seed=3", f"data.root=/{'x' * 200}", "model=a"]).startswith("model=a,seed=3,data.root=xxx")
    evaluated = folder_name([f"checkpoint='{'long/' * 40}last.ckpt'", "threshold.quantile=0.95"])
    assert evaluated.startswith("checkpoint=_long_last.ckpt_,threshold.quantile=0.95~")


# --- more than one process ---


@pytest.mark.parametrize(
    "setting", ["strategy: ddp_spawn", "devices: 2", "devices: auto", "devices: [0, 1]", "num_nodes: 2"]
)
def test_several_processes_in_a_sweep_are_refused(setting: str) -> None:
    why = several_processes(OmegaConf.create({"trainer": yaml.safe_load(f"{{{setting}}}")}))
    assert why is not None
    assert "\n" not in why
    assert f"trainer.{setting.split(':')[0]}=" in why


@pytest.mark.parametrize("setting", ["{}", "{strategy: auto}", "{devices: 1}", "{devices: [3]}", "{num_nodes: 1}"])
def test_one_process_is_fine(setting: str) -> None:
    assert several_processes(OmegaConf.create({"trainer": yaml.safe_load(setting)})) is None
    assert several_processes(OmegaConf.create({"command": "evaluate"})) is None


# --- real sweeps ---


def start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`anomap-train -m` over two controls in `folder`."""
    script = Path(sys.executable).with_name("anomap-train")
    data = folder / "data"
    if not data.is_dir():
        tiny.write_folder(data, train=8, normal=2, abnormal=2)
    fixed = ("data=folder", f"data.root={data}", "data.channels=1", "controls=false", "figures=false", "logger=none")
    environment = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    return subprocess.run(
        [script, *arguments, *fixed, f"hydra.sweep.dir={folder}/sweep"],  # Hydra wants -m before the first override
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )


def jobs(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "sweep").iterdir() if path.is_dir())


def test_a_sweep_goes_on_where_it_stopped(tmp_path: Path) -> None:
    grid = ("-m", "model=control_darkness,control_mean", "data.image_size=32")
    first = start(tmp_path, *grid, "seed=0")
    assert first.returncode == 0, first.stderr
    assert "anomap-report" in first.stdout
    times = {path: (path / "metrics.json").stat().st_mtime_ns for path in jobs(tmp_path)}
    second = start(tmp_path, *grid, "seed=0,1")  # the same and more, in another order
    assert second.returncode == 0, second.stderr
    assert second.stdout.count("skipped") == 2
    assert len(jobs(tmp_path)) == 4
    assert {path: (path / "metrics.json").stat().st_mtime_ns for path in times} == times
    found = {(m["model"], m["seed"]) for m in (read_metrics(path / "metrics.json") for path in jobs(tmp_path))}
    assert found == {(model, seed) for model in ("control_darkness", "control_mean") for seed in (0, 1)}
    reported = subprocess.run(
        [Path(sys.executable).with_name("anomap-report"), tmp_path / "sweep"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "| control_mean | 2 |" in reported.stdout


def test_a_failing_job_is_recorded_and_stops_no_other(tmp_path: Path) -> None:
    done = start(tmp_path, "-m", "model=control_darkness", "data.image_size=-5,32", "threshold.quantile=0.5")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    summary, line = done.stderr.splitlines()
    assert summary.startswith("error: 1 failed")
    assert "data.image_size=-5: use one positive integer" in line
    failed, finished = sorted(jobs(tmp_path), key=lambda path: (path / "metrics.json").is_file())
    assert (finished / "metrics.json").is_file()
    assert not (finished / ERROR).exists()
    assert not (failed / "metrics.json").exists()
    assert len((failed / ERROR).read_text().splitlines()) == 1
    # another start in the same folder, without the failed one, answers for its own jobs only
    again = start(tmp_path, "-m", "model=control_darkness", "data.image_size=32", "threshold.quantile=0.5")
    assert again.returncode == 0, again.stderr
    assert failures(tmp_path / "sweep") == []
    assert (failed / ERROR).is_file()


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("model=control_mean,nope", "model=nope: no such option"),
        ("trainer.max_epoch=1,2", "did you mean trainer.max_epochs?"),
        ("+trainer.strategy=ddp,auto", "trainer.strategy=ddp"),
    ],
)
def test_a_sweep_that_cannot_be_started_is_one_line_and_exit_status_2(
    argument: str, words: str, tmp_path: Path
) -> None:
    done = start(tmp_path, "-m", argument)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line


# --- prepared sweeps ---


@pytest.mark.parametrize("name", SWEEPS)
def test_a_prepared_sweep_always_has_the_same_folder(name: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [f"sweep={name}"], return_hydra_config=True)
    assert config.hydra.mode.name == "MULTIRUN"
    assert config.hydra.sweep.dir == f"outputs/train/sweep/{name}"
    assert config.hydra.sweeper.params


def test_a_prepared_sweep_runs_and_its_values_can_be_overridden(tmp_path: Path) -> None:
    done = start(tmp_path, "sweep=seeds", "seed=4,5", "model=control_mean", "data.image_size=32")
    assert done.returncode == 0, done.stderr
    assert {read_metrics(path / "metrics.json")["seed"] for path in jobs(tmp_path)} == {4, 5}


def test_the_ablation_sweeps_every_variant() -> None:
    params = OmegaConf.load(CONF / "sweep" / "ablation.yaml").hydra.sweeper.params
    assert sorted(name.strip() for name in params.ablation.split(",")) == ABLATIONS


@functools.cache
def composed(model: str, *overrides: str) -> dict[str, Any]:
    chosen = [f"model={model}", "data=folder", "data.root=x", *overrides]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return flat(plain(compose("train", chosen)))


@pytest.mark.parametrize("model", ["adgan", "feature_adgan"])
@pytest.mark.parametrize("name", ABLATIONS)
def test_a_variant_changes_what_exists_and_can_be_built(name: str, model: str) -> None:
    whole, variant = composed(model), composed(model, f"ablation={name}")
    changed = {key for key in variant if key not in whole or variant[key] != whole[key]}
    if name == "augmentation_cutout":
        assert {key.partition(".")[0] for key in changed} == {"augmentation"}
    else:
        assert variant.keys() == whole.keys()  # a misspelt key would be a new one
        assert bool(changed) == (name != "full")
    if model in tiny.MODELS:
        torch.manual_seed(0)
        config = tiny.config(f"model={model}", f"ablation={name}")
        build(config["model"]["objective"])
        build(config["augmentation"])
