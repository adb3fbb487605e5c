"""anomap-tune on tiny data: real trainings, resumed; never a test image; a preset that composes to the best trial."""

import csv
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir

from anomap.commands.tune import of_train, tune
from anomap.config import config_dir, flat, plain
from anomap.errors import UserError
from anomap.runs.lock import alone
from tests import tiny

pytestmark = pytest.mark.thorough

SMALL = ("data=folder", "data.channels=1", "data.image_size=32", "data.batch_size=8", "trainer.max_epochs=2")
MODEL = ("model=attention_network", "model.objective.generator.width=8", "model.objective.discriminator.width=8")
FIXED = (*SMALL, *MODEL, "trainer.accelerator=cpu", "controls=false")
CONTROL = (*SMALL, "model=control_pca", "~space.model", "+space.model.objective.components={low:1,high:8}")


def run(folder: Path, *overrides: str) -> list[dict[str, str]]:
    """anomap-tune in this process; what `trials.csv` holds then."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        tune(plain(compose("tune", list(overrides))), folder, overrides)
    return list(csv.DictReader((folder / "trials.csv").open()))


def trained(overrides: Sequence[str]) -> dict[str, object]:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return flat(plain(compose("train", list(overrides))))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_folder(tmp_path_factory.mktemp("data"), train=40)


def test_a_study_goes_on_and_reads_no_test_image(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = (*FIXED, f"data.root={data}")
    first = run(tmp_path / "study", *sound, "trials=1")
    second = run(tmp_path / "study", *sound, "trials=2")
    assert second[0] == first[0]
    assert [row["state"] for row in second] == ["complete", "complete"]
    assert all(0 <= float(row["objective"]) <= 1 and row["epochs"] == "2" for row in second)
    assert first[0]["model.optimizer.lr_generator"] == "0.001"  # as configured
    assert not list((tmp_path / "study").glob(".trial-*"))

    # the preset is the best trial, whole
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith("use ")
    command = shlex.split(last)[1:]
    assert command == ["anomap-train", "--config-dir", str(tmp_path / "study"), "experiment=best"]
    winner = max(second, key=lambda row: float(row["objective"]))
    values = {key: yaml.safe_load(value) for key, value in winner.items() if key.startswith("model.")}
    expected = trained([*sound, *(f"{key}={value}" for key, value in values.items())])
    used = trained([f"hydra.searchpath=[file://{tmp_path}/study]", "experiment=best"])
    assert used == expected

    # other test images, or none that is abnormal, change nothing
    poisoned = tmp_path / "poisoned"
    tiny.write_folder(poisoned, train=40, abnormal=0)
    for path in (poisoned / "test").rglob("*.png"):
        path.write_text("no image")
    again = run(tmp_path / "other", *FIXED, f"data.root={poisoned}", "trials=1")
    assert again == first


def test_a_method_without_epochs_can_be_searched_too(data: Path, tmp_path: Path) -> None:
    rows = run(tmp_path, *CONTROL, f"data.root={data}", "trials=3")
    assert [row["state"] for row in rows] == ["complete"] * 3
    assert {row["epochs"] for row in rows} == {""}
    with pytest.raises(UserError, match=r"begun with space.model.objective.components.high=8, not 9"):
        run(
            tmp_path, *CONTROL[:-1], "+space.model.objective.components={low:1,high:9}", f"data.root={data}", "trials=3"
        )


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("trials=0", "trials=0"),
        ("seed=abc", "seed=abc"),
        ("every=0", "every=0"),
        ("startup_trials=-1", "startup_trials=-1"),
        (
            "+space.model.optimizer.lr={low:1,high:2}",
            "space.model.optimizer.lr: .*did you mean model.optimizer.lr_generator",
        ),
        ("held_out.only_fills=[blurr]", "blurr"),
    ],
)
def test_what_cannot_be_searched_is_one_line(override: str, told: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told) as raised:
        run(tmp_path, *FIXED, f"data.root={data}", override)
    assert "\n" not in str(raised.value)


def test_one_process_at_a_time(data: Path, tmp_path: Path) -> None:
    with alone(tmp_path, "busy"), pytest.raises(UserError, match="another anomap-tune is at work"):
        run(tmp_path, *FIXED, f"data.root={data}", "trials=1")


def test_only_keys_of_the_training_go_to_its_trials() -> None:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        given = [
            "trials=3",
            "model=adgan",
            "space=losses",
            "study=x",
            "+trainer.limit_train_batches=2",
            "hydra.run.dir=y",
        ]
        kept = of_train(
            [*given, "held_out.seed=1", "~model.betas", "experiment=elpv", "every=2", "startup_trials=null"]
        )
    assert kept == ["model=adgan", "+trainer.limit_train_batches=2", "~model.betas", "experiment=elpv"]


@pytest.mark.slow
def test_the_last_line_is_a_command_that_works(data: Path, tmp_path: Path) -> None:
    code = "from anomap.cli.entry import {0}; {0}()"
    fixed = (*FIXED, f"data.root={data}", "trials=2", "study=mine")
    searched = subprocess.run(
        [sys.executable, "-c", code.format("tune"), *fixed], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert searched.returncode == 0, searched.stderr
    _, command, *arguments = shlex.split(searched.stdout.splitlines()[-1])
    assert command == "anomap-train"
    done = subprocess.run(
        [sys.executable, "-c", code.format("train"), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.rglob("metrics.json"))) == 1


@pytest.mark.parametrize(("method", "lowest"), [(FIXED, 0), (CONTROL, 0.5)])
def test_photographs_are_searched_on_their_tiles(method: Sequence[str], lowest: float, tmp_path: Path) -> None:
    photographs = tiny.write_photographs(tmp_path / "data")
    tiled = ("data.tile=32", "data.calibration_fraction=0.4", "trainer.max_epochs=1")
    rows = run(tmp_path / "study", *method, *tiled, f"data.root={photographs}", "trials=1")
    assert [row["state"] for row in rows] == ["complete"]
    assert lowest < float(rows[0]["objective"]) <= 1
