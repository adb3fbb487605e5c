"""Sweeps: safe and stable folders, restarts that repeat nothing, failures that stop nothing, prepared sweeps."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from anomap.cli.multirun import failures, folder_name, outdated, run_job, several_processes
from anomap.config import build, config_dir, flat, plain
from anomap.runs.folder import RunFolder, read_metrics
from anomap.runs.jobs import ERROR
from tests import tiny

pytestmark = pytest.mark.thorough

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
        assert len(name) <= 200
        assert name.isascii()
        assert "/" not in name
    assert folder_name(["data.root=/a/b"]) == folder_name(["data.root=/a/b"])


LONG = [f"model.objective.weights.part_{number}=0.{'1' * 30}" for number in range(12)]


def note_sweep(folder: Path, *overrides: str, **params: str) -> Path:
    """What Hydra writes when a sweep starts."""
    noted = {"hydra": {"sweeper": {"params": params or None}, "overrides": {"task": list(overrides)}}}
    (folder / "multirun.yaml").write_text(yaml.safe_dump(noted))
    return folder


def test_the_end_of_a_path_says_what_a_value_is() -> None:
    checkpoint = "checkpoint='outputs/train/2026-11-26/12-00-00.5/checkpoints/last.ckpt'"
    assert folder_name([checkpoint, "threshold.quantile=0.95"]).startswith(
        "checkpoint=12-00-00.5,threshold.quantile=0.95~"
    )
    assert folder_name(["data.root=../../wood/", "model=attention_network"]).startswith(
        "model=attention_network,data.root=wood~"
    )


def test_what_was_swept_stays_whole_however_long_the_name(tmp_path: Path) -> None:
    note_sweep(tmp_path, *LONG, "model=attention_network,adgan", **{"threshold.quantile": "0.95,0.995"})
    names = {
        folder_name([*LONG, f"threshold.quantile={quantile}", f"model={model}"], tmp_path)
        for quantile in ("0.95", "0.995")
        for model in ("attention_network", "adgan")
    }
    assert len(names) == 4
    for name in names:
        assert len(name) <= 200
        assert re.match(r"(.*,)?model=(attention_network|adgan),(.*,)?threshold\.quantile=0\.9(9)?5[,~]", name), name
    roots = note_sweep(tmp_path, "data.root=/a/wood,/b/wood")
    assert folder_name(["data.root=/a/wood", "seed=0"], roots).startswith("seed=0,data.root=a_wood~")


def test_a_sweep_over_more_finds_the_folders_of_one_over_less(tmp_path: Path) -> None:
    note_sweep(tmp_path, *LONG, "model=adgan,ganomaly", "data.root=/a/wood")
    job = [*LONG, "model=adgan", "data.root=/a/wood"]
    (tmp_path / (first := folder_name(job, tmp_path))).mkdir()
    note_sweep(tmp_path, *LONG[1:], f"{LONG[0]},0.2", "model=adgan,ganomaly", "data.root=/a/wood,/a/fabric")
    os.utime(tmp_path / "multirun.yaml", (1, 1))  # another moment
    assert folder_name(job, tmp_path) == first
    assert folder_name([*LONG, "model=ganomaly", "data.root=/a/wood"], tmp_path) != first
    (tmp_path / "multirun.yaml").write_text("no: sweep")
    assert folder_name(job, tmp_path) == first


def test_a_value_too_long_for_any_name_is_cut() -> None:
    assert re.fullmatch(r"x=~ong(long){15}~\w{10}", folder_name(["x=" + "long" * 100]))


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


def test_results_of_a_checkpoint_that_was_trained_again_are_outdated(tmp_path: Path) -> None:
    run, checkpoint = RunFolder(tmp_path / "job"), tmp_path / "last.ckpt"
    run.path.mkdir()
    run.metrics.touch()
    checkpoint.touch()
    config = OmegaConf.create({"checkpoint": str(checkpoint)})
    os.utime(checkpoint, (1000, 1000))
    assert not outdated(config, run)
    done: list[str] = []
    run_job(lambda: done.append("again"), config, run.path)
    assert done == []
    os.utime(checkpoint, (2e9, 2e9))
    assert outdated(config, run)
    run_job(lambda: done.append("again"), config, run.path)
    assert done == ["again"]
    assert not outdated(OmegaConf.create({"checkpoint": str(tmp_path / "gone.ckpt")}), run)
    assert not outdated(OmegaConf.create({"seed": 0}), run)  # of anomap-train


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
