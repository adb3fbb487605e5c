"""Paths as people type them: whatever a folder is called, the command gets that name, or one line says how to type it."""

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from anomap.cli.schema import check_paths, is_path
from anomap.cli.typed import advice, for_hydra, is_sweep, with_folder
from anomap.config import config_dir, flat, plain, quoted, unquoted
from anomap.errors import UserError
from tests import tiny
from tests.in_process import in_process

NAMES = [
    *("2024_11_25", "42", "-5", "1.10", "1e3", "true", "True", "NULL", "nan", "0x10", "1:30", "2024-11-25", "str(42)"),
    *("c#d", "über (1)", "g [1]", "[1]", "{a}", "a,b", "k=v", "$x", "a: b", "*.png", "~/x", "\udcff", "two\nlines"),
    *(" a", "a ", "-x", "--m", "b\\c", "b\\,c", "end\\", "O'Brien", 'say "a"', "'a", "a'", "\\'x", "choice(a,b)"),
]


@pytest.fixture(scope="module", autouse=True)
def _configured() -> Iterator[None]:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        yield


@pytest.mark.parametrize("name", NAMES)
def test_a_name_arrives_as_it_is_typed(name: str) -> None:
    typed = for_hydra([f"output={name}"])
    assert plain(compose("predict", typed))["output"] == name
    assert for_hydra(typed) == typed  # as a training's further processes get it
    assert unquoted(quoted(name)) == name


@pytest.mark.thorough
@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("-")])
def test_a_folder_alone_is_the_data(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).mkdir(parents=True)
    typed = for_hydra(with_folder(["--config-dir", "x", name, "data.image_size=32"]))
    assert plain(compose("check", typed[2:]))["data"]["root"] == name
    assert with_folder(typed) == typed


def test_of_several_folders_none_is_taken(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a path with spaces goes in quotes: 'my folder'"):
        with_folder(["my", "folder", "pixels=3"])
    assert with_folder([str(tmp_path), "~sweep"]) == [f"data.root={tmp_path}", "~sweep"]


@pytest.mark.parametrize("name", ["2024_11_26", "1.10", "r,s", "über (1)"])
def test_hydras_own_folders_are_text_too(name: str) -> None:
    keys = ("hydra.run.dir", "hydra.sweep.dir")
    config = compose("predict", for_hydra(["-m", *(f"{key}={name}" for key in keys)])[1:], return_hydra_config=True)
    assert [OmegaConf.select(config, key) for key in keys] == [name, name]


def test_what_is_meant_for_hydra_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for argument in (
        *("-m", "--config-dir=a=b", "seed=0", "seed=1,2", "data.intensity_range=[0,1]", "+extra.key=a=b", "~logger"),
        *("data.root=null", "data.root='c d'", 'input="DIR/*.png"', "hydra.run.dir=out/${seed}", "checkpoint="),
    ):
        assert for_hydra([argument]) == [argument]
    assert for_hydra(["hydra.run.dir=é/${now:%Y}", "hydra.run.dir=~/x"]) == [
        "hydra.run.dir='é/${now:%Y}'",
        "hydra.run.dir=/home/me/x",
    ]
    assert for_hydra(["+data.root=42", "++data.root=42", "~data.root=42"]) == [
        f"{sign}data.root='42'" for sign in ("+", "++", "~")
    ]
    assert for_hydra(["data.normal_names=[1.10, good,c#d]", "data.category=1"]) == [
        "data.normal_names=['1.10',good,'c#d']",
        "data.category='1'",
    ]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "${x}").mkdir()
    assert plain(compose("train", for_hydra(["data.root=${x}"])))["data"]["root"] == "${x}"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("checkpoint=out/seed=0/last.ckpt", "checkpoint='out/seed=0/last.ckpt'"),
        ("checkpoint=out/model=a,seed=0/last.ckpt", "checkpoint='out/model=a,seed=0/last.ckpt'"),
        ("checkpoint='a/seed=0/x'", "checkpoint='a/seed=0/x'"),
        ("anything=a=b", "anything='a=b'"),
    ],
)
def test_values_with_an_equals_sign_are_quoted_for_hydra(given: str, expected: str) -> None:
    assert for_hydra([given]) == [expected]


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("a,b", ["a", "b"]),
        ("2024_11_25,42,g [1]", ["2024_11_25", "42", "g [1]"]),
        ("'a,b',1, c#d", ["a,b", "1", "c#d"]),
        ("O'Brien,'x'", ["O'Brien", "x"]),
        ("a/x=1,a/x=2", ["a/x=1", "a/x=2"]),
        ("choice(a,b)", ["a", "b"]),
    ],
)
def test_in_a_sweep_commas_separate_values(typed: str, values: list[str]) -> None:
    (line,) = for_hydra([f"data.root={typed}"], many=True)
    each = OverridesParser.create().parse_override(line).sweep_string_iterator()
    assert [unquoted(value) for value in each] == values


def test_in_a_sweep_an_existing_path_with_commas_is_one_value(tmp_path: Path) -> None:
    for name in ("model=a,seed=0", "model=a,seed=1"):
        (tmp_path / name).mkdir()
    one, two = tmp_path / "model=a,seed=0", tmp_path / "model=a,seed=1"
    assert for_hydra([f"data.root={one}"], many=True) == [f"data.root='{one}'"]
    assert for_hydra([f"data.root={one},b,{two},c/x=1"], many=True) == [f"data.root='{one}',b,'{two}','c/x=1'"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["model=a"], False),
        (["-m", "model=a"], True),
        (["model=a", "--multirun"], True),
        (["sweep=seeds", "data.root=a/x=1,a/x=2"], True),  # its file says so to Hydra
        (["sweep=null"], False),
        (["hydra.mode=MULTIRUN"], True),
    ],
)
def test_a_prepared_sweep_is_a_sweep(arguments: list[str], expected: bool) -> None:
    assert is_sweep(arguments) == expected


def test_what_the_shell_has_cut_and_null_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"path with spaces goes in quotes: 'data.root=my folder'"):
        for_hydra(["data.root=my", "folder"])
    assert for_hydra(["data.root=null"]) == ["data.root=null"]
    (tmp_path / "null").mkdir()
    with pytest.raises(UserError, match=r"data.root=null: means that it is not set; .* is data.root=./null"):
        for_hydra(["data.root=null"])
    assert plain(compose("train", for_hydra(["data.root=./null"])))["data"]["root"] == "./null"


@pytest.mark.parametrize("value", ["c#d", "über (1)", "{a}", "a'b", 'a"b$x', "a!b`c\\"])
def test_the_advice_for_other_keys_works_when_it_is_typed(value: str) -> None:
    typed = advice(f"data.cells={value}")
    assert typed is not None
    in_shell = subprocess.run(["sh", "-c", f"printf %s {typed}"], capture_output=True, text=True, check=True).stdout
    assert shlex.split(typed) == [in_shell]
    assert plain(compose("train", ["data=elpv", in_shell]))["data"]["cells"] == value
    assert advice("no key") is None


def test_which_keys_are_paths() -> None:
    found: dict[str, Any] = {}
    for command, *overrides in (
        ["train"],
        ["train", "data=folder"],
        ["train", "data=mvtec"],
        ["predict"],
        ["export"],
        ["tune"],
    ):
        config = OmegaConf.to_container(compose(command, overrides), resolve=False)
        found |= {key: value for key, value in flat(config).items() if is_path(key)}  # pyright: ignore[reportArgumentType]
    assert set(found) - {"encoder.weights"} == {
        *("checkpoint", "input", "output", "images", "resume", "study", "logger.tensorboard.save_dir"),
        *("data.root", "data.normal_dir", "data.abnormal_dir", "data.cache_dir", "data.category", "data.exclude"),
    }
    assert all(isinstance(value, str | None) for value in found.values())
    assert is_path("hydra.run.dir")


def test_a_number_in_a_file_and_an_empty_path_are_one_line() -> None:
    config = {"data": {"name": "mvtec", "root": ".", "category": 1}}
    with pytest.raises(UserError, match=r"data.category: 1 is no text; .*quotes"):
        check_paths(config)
    with pytest.raises(UserError, match=r"output= is empty"):
        check_paths({"output": ""})
    check_paths({"data": {"name": "mine.Layout", "root": 1}})


def test_a_training_in_folders_with_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the command line to the files of the run."""
    monkeypatch.chdir(tmp_path)
    root = tiny.write_folder(tmp_path / "2024_11_25" / "1", train=8)
    for part in ("train", "test"):
        (root / part / "0.normal").rename(root / part / "good")
    small = ["model=control_mean", "data.image_size=32", "data.channels=1", "controls=false", "figures=false"]
    arguments = ["data=mvtec", "data.root=2024_11_25", "data.category=1", *small]
    assert in_process(arguments, "1.10", monkeypatch) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"2024_11_25", "1.10"}
    assert (tmp_path / "1.10" / "metrics.json").is_file()
    assert OmegaConf.load(tmp_path / "1.10" / ".hydra" / "config.yaml").data.root == "2024_11_25"
