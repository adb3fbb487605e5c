"""anomap-check as it is typed: a folder alone will do, no torch is imported, what to set can be pasted."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from anomap.commands.check import check, scales
from anomap.config import config_dir, plain
from anomap.detection.calibration import resolve_threshold
from anomap.errors import UserError
from tests import tiny

TYPED = """
import sys
from anomap.cli.entry import check
check()
assert not {"torch", "pytorch_lightning"} & {*sys.modules}, "torch was imported"
"""


def config(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return plain(compose("check", ["data.image_size=32", *overrides]))


def typed(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "HYDRA_FULL_ERROR"}
    words = [sys.executable, "-c", TYPED, *arguments, f"hydra.run.dir={folder}/run"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, env=environment)


def test_a_folder_alone_is_checked_without_torch_and_the_advice_can_be_pasted(tmp_path: Path) -> None:
    tiny.write_folder(tmp_path / "my data=1")
    done = typed(tmp_path, "my data=1", "pixels=30")
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads((tmp_path / "run/check.json").read_text())
    assert facts["n_train"] + facts["n_calibration"] == 20
    assert facts["n_warnings"] == done.stdout.count("warning ")
    assert facts["warning_1"] in done.stdout
    train = next(line for line in done.stdout.splitlines() if line.startswith("train "))
    assert train.split(maxsplit=1)[1] == (
        f"anomap-train data=folder 'data.root=my data=1' {facts['set']}"  # anomap quotes it for Hydra
    )


@pytest.mark.thorough
def test_bad_input_is_one_line_and_exit_status_2(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, said in ((("empty",), "put normal images in"), (("empty", "pixels=0"), "pixels=0: give a whole")):
        done = typed(tmp_path, *arguments)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert said in done.stderr


def test_the_promise_is_that_of_the_training(tmp_path: Path) -> None:
    """Of 20 normals, as the training splits them; the proposed share keeps the order of promises."""
    tiny.write_folder(tmp_path)
    found = check(config(f"data.root={tmp_path}"))
    deciding = int(found.facts["n_deciding"] or 0)
    assert deciding == int(found.facts["n_calibration"] or 0) - int(found.facts["n_calibration"] or 0) // 2
    expected = resolve_threshold({"strategy": "quantile", "quantile": 0.95}, [0.0] * deciding).promised_fpr
    assert found.facts["promised_fpr"] == expected == 1 / (deciding + 1)
    assert found.settings["data.calibration_fraction"] == "0.4"
    again = check(config(f"data.root={tmp_path}", "data.calibration_fraction=0.4"))
    assert float(again.facts["promised_fpr"] or 1) < (expected or 0)
    assert "data.calibration_fraction" not in again.settings
    alone = check(config(f"data.root={tmp_path}", "model=ganomaly"))
    assert alone.facts["n_deciding"] == alone.facts["n_calibration"]
    assert "promise" not in check(config(f"data.root={tmp_path}", "threshold=manual")).rows


def test_what_weakens_the_promise_of_the_training_weakens_this_one(tmp_path: Path) -> None:
    """Suspected defects, a second look, and a limit; of a score of one part."""
    tiny.write_folder(tmp_path, train=60)
    one_part = (f"data.root={tmp_path}", "model=control_pca", "data.calibration_fraction=0.4")
    plain = check(config(*one_part)).facts
    count = int(plain["n_calibration"] or 0)
    assert plain["n_deciding"] == count
    suspected = check(config(*one_part, "data.contamination=0.1")).facts
    expected = resolve_threshold({"strategy": "quantile", "quantile": 0.95}, np.zeros(count), contamination=0.1)
    assert suspected["promised_fpr"] == expected.promised_fpr
    assert float(suspected["promised_fpr"] or 0) > float(plain["promised_fpr"] or 1)
    assert int(check(config(*one_part, "data.scales=[1,2]")).facts["n_deciding"] or 0) < count
    few = check(config(*one_part, "data.limit=7")).facts
    assert (few["n_train"], few["n_calibration"], few["n_deciding"]) == (7, 7, 7)
    with pytest.raises(UserError, match=r"data\.contamination=0\.7"):
        check(config(*one_part, "data.contamination=0.7"))


def test_images_that_are_compared_place_by_place_all_set_the_threshold(tmp_path: Path) -> None:
    """Tiled or not; as the training finds out."""
    tiny.write_photographs(tmp_path, train=20, shapes=[(140, 150)], board=True)
    for given in (["data.image_size=128"], ["data.tile=64"]):
        found = check(config(f"data.root={tmp_path}", *given))
        assert found.facts["aligned"] == 1
        assert "place by place" in found.rows["aligned"]
        assert found.facts["n_deciding"] == found.facts["n_calibration"]
    for given in ("data.aligned=false", "data.image_size=64", "data.scales=[1,2]"):
        found = check(config(f"data.root={tmp_path}", "data.image_size=128", given))
        assert found.facts["aligned"] == 0
        assert int(found.facts["n_deciding"] or 0) < int(found.facts["n_calibration"] or 0)
    with pytest.raises(UserError, match=r"data\.aligned=7: give auto, true or false"):
        check(config(f"data.root={tmp_path}", "data.aligned=7"))


def test_images_of_several_sizes_are_compared_only_once_they_are_resized(tmp_path: Path) -> None:
    tiny.write_photographs(tmp_path, train=20, shapes=[(140, 150)], board=True)
    for path in sorted((tmp_path / "train/good").iterdir())[::5]:
        with Image.open(path) as image:
            image.resize((300, 280)).save(path)
    assert check(config(f"data.root={tmp_path}", "data.image_size=128")).facts["aligned"] == 1
    assert check(config(f"data.root={tmp_path}", "data.tile=64")).facts["aligned"] == 0
    with pytest.raises(UserError, match=r"data\.aligned=true: 2 sizes"):
        check(config(f"data.root={tmp_path}", "data.tile=64", "data.aligned=true"))


def test_a_wrong_quantile_is_told(tmp_path: Path) -> None:
    tiny.write_folder(tmp_path)
    with pytest.raises(UserError, match=r"threshold.quantile=2"):
        check(config(f"data.root={tmp_path}", "threshold.quantile=2"))


@pytest.mark.parametrize("model", tiny.MODELS)
def test_a_model_has_as_many_parts_as_its_configuration_says(model: str) -> None:
    objective = tiny.objective(model)
    weights = [objective.part_weights.get(name, 1.0) for name in objective.part_names]
    assert scales(tiny.config(f"model={model}")["model"]) == (sum(map(bool, weights)) > 1)
