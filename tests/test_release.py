"""What is released: a wheel and a source archive that work in an environment of their own, away from this checkout."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomap import __version__

ROOT = Path(__file__).parent.parent
COMMANDS = ("train", "evaluate", "predict", "export", "preview", "report", "tune", "check", "calibrate")
MEGABYTE = 10**6

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both, built as for a release."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", str(folder)], cwd=ROOT, check=True)
    return {path.suffix.removeprefix("."): path for path in folder.iterdir()}


@pytest.fixture(scope="module", params=["whl", "gz"])
def installed(
    request: pytest.FixtureRequest, archives: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The bin folder of a fresh environment that holds one of them, and this environment's other packages."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(
        sysconfig.get_paths()["purelib"]
    )  # the .pth files there, of this checkout, do not count
    install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*install, str(archives[request.param])], check=True)
    return folder / "bin"


def run(program: Path, *arguments: str, folder: Path) -> str:
    """Its output; a test fails with what it said if it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(program), *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_archives_are_small_and_hold_no_tests(archives: dict[str, Path]) -> None:
    with zipfile.ZipFile(archives["whl"]) as wheel, tarfile.open(archives["gz"]) as source:
        names = {"whl": wheel.namelist(), "gz": [name.partition("/")[2] for name in source.getnames()]}
    assert any(name == "anomap/conf/train.yaml" for name in names["whl"])
    for kind, found in names.items():
        assert archives[kind].stat().st_size < MEGABYTE
        parts = {part for name in found for part in Path(name).parts[:-1]}
        assert not parts & {"tests", "benchmark", "scripts", "outputs", "docs"}
        assert __version__ in archives[kind].name


def test_every_command_works_from_another_folder(installed: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("parts", 40), ("others", 10)):
        (tmp_path / name).mkdir()
        for number in range(count):
            noise = rng.integers(90, 160, (24, 24), np.uint8)
            Image.fromarray(noise).save(tmp_path / name / f"{number:02d}.png")
    where = run(installed / "python", "-c", "import anomap; print(anomap.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)
    for name in COMMANDS:
        assert "anomap" in run(installed / f"anomap-{name}", "--help", folder=tmp_path)
    data = ("data=folder", "data.root=parts", "data.image_size=32")
    assert "40" in run(installed / "anomap-check", "parts", folder=tmp_path)
    run(installed / "anomap-preview", *data, folder=tmp_path)
    run(installed / "anomap-train", *data, "model=control_mean", "hydra.run.dir=run", folder=tmp_path)
    checkpoint = "checkpoint=run/checkpoints/last.ckpt"
    run(installed / "anomap-predict", checkpoint, "input=parts", "output=found", folder=tmp_path)
    run(installed / "anomap-calibrate", checkpoint, "data.root=others", folder=tmp_path)
    run(installed / "anomap-export", checkpoint, "format=exported_program", folder=tmp_path)
    run(installed / "anomap-evaluate", checkpoint, "data.normal_dir=others", "data.abnormal_dir=parts", folder=tmp_path)
    assert (tmp_path / "found" / "scores.csv").read_text().count("\n") == 41
