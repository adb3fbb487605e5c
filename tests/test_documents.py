"""What the documents and the YAML files tell people to type: every command exists, composes, and has known keys only."""

import importlib
import itertools
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from anomap.cli.schema import check_keys, groups_of
from anomap.cli.typed import with_folder
from anomap.config import config_dir, flat

CONF = config_dir()
ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
YAMLS = sorted(CONF.rglob("*.yaml"))
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
VALUED = ("--cfg", "-sc", "--config-dir", "--config-name", "--config-path", "--package")  # Hydra's flags with a value

# these only set what is explained where it is defined: here, or in Hydra's documentation
PRESETS = ("ablation", "debug", "experiment", "hydra", "sweep")


# --- finding commands ---


def commands(line: str) -> Iterator[list[str]]:
    """Every `anomap-…` on a line as its words; what stands after two spaces or a # is a remark."""
    code = re.split(r"\s{2,}|\s#", line.strip())[0]
    for part in re.split(r"&&|[|;]|\"\$\(|\)\"", code):
        if (found := re.search(r"(?:anomap-|python scripts/)\w.*", part)) is not None:
            words = shlex.split(found[0])
            if words[0] == "python":
                words = [f"anomap-{Path(words[1]).stem}", *words[2:]]
            if words[0] in SCRIPTS or found[0].startswith("anomap-"):  # some scripts are no command
                yield words


def in_document(path: Path) -> Iterator[list[str]]:
    """The commands of a Markdown file: in code blocks and in code within a sentence."""
    text = path.read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for block in (code for language, code in blocks if language in ("", "bash", "sh", "shell", "console")):
        for line in block.replace("\\\n", " ").splitlines():
            yield from commands(line.removeprefix("$ "))
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for span in re.findall(r"`([^`]+)`", prose):
        yield from commands(" ".join(span.split()))


def in_yaml(path: Path) -> Iterator[list[str]]:
    """The commands of a YAML file: on its first line and among the examples of its help."""
    for line in path.read_text().splitlines():
        if re.match(r"(#.*|\s+)anomap-\w+ +(-|[\w./@+~]+=)", line):
            yield from commands(re.sub(r"^.*?(?=anomap-)", "", line))


def all_commands() -> dict[tuple[str, ...], list[str]]:
    """Every command with arguments -> the files that hold it."""
    found: dict[tuple[str, ...], list[str]] = {}
    for paths, find in ((DOCUMENTS, in_document), (YAMLS, in_yaml)):
        for path in paths:
            for words in find(path):
                found.setdefault(tuple(words), []).append(path.name)
    return found


WRITTEN = all_commands()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("anomap-train data.root=DIR    # look", [["anomap-train", "data.root=DIR"]]),
        ("anomap-train seed=0 # look", [["anomap-train", "seed=0"]]),
        ("python scripts/textures.py x && anomap-train -m seed=0,1", [["anomap-train", "-m", "seed=0,1"]]),
        ("python scripts/train.py seed=1", [["anomap-train", "seed=1"]]),
        ("""anomap-predict 'input="A/*.png"' | head""", [["anomap-predict", 'input="A/*.png"']]),
        ('eval "$(anomap-train -sc install=bash)"', [["anomap-train", "-sc", "install=bash"]]),
        ("pip install anomap", []),
    ],
)
def test_commands_are_found_on_a_line(line: str, expected: list[list[str]]) -> None:
    assert list(commands(line)) == expected


def test_the_documents_and_every_yaml_hold_commands() -> None:
    """The tests below would pass if none were found."""
    sources = list(itertools.chain.from_iterable(WRITTEN.values()))
    assert sources.count("README.md") >= 10
    assert {path.name for path in YAMLS} <= {*sources}


# --- composing them ---


def composed(name: str, arguments: list[str]) -> None:
    """Compose `anomap-<name>` as it was typed, and refuse unknown keys as it does; of a sweep, every value once."""
    overrides, own = [], False
    words = iter(with_folder(arguments) if name == "check" else arguments)
    for word in words:
        if word in VALUED:
            own = own or word == "--config-dir"
            next(words)
        elif not word.startswith("-"):
            overrides.append(word)
    overrides = [text for text in overrides if not text.startswith(("hydra/launcher=", "hydra.launcher."))]  # packages
    if own:  # with options of the reader's own, which are not here
        overrides = [text for text in overrides if not _missing_option(text)]
    parsed = OverridesParser.create().parse_overrides(overrides)
    many = {"-m", "--multirun"} & {*arguments} or any(text.startswith("sweep=") for text in overrides)
    groups = groups_of(name)
    values = []
    for override, text in zip(parsed, overrides, strict=True):
        assert many or not override.is_sweep_override(), f"{text} without -m"
        found = list(override.sweep_string_iterator()) if override.is_sweep_override() else []
        chosen = found if override.key_or_group in groups else found[:1]  # one number is as good as another
        values.append([f"{text.partition('=')[0]}={value}" for value in chosen] or [text])
    for number in range(max(map(len, values), default=1)):
        one = [found[number % len(found)] for found in values]
        config = compose(name, one, return_hydra_config=True)
        if any(text.startswith("+") for text in one):  # Hydra itself refuses unknown keys without
            check_keys(compose(name, one), name, config.hydra.runtime.choices)


def _missing_option(text: str) -> bool:
    group, _, option = text.partition("=")
    return (CONF / group).is_dir() and not (CONF / group / f"{option}.yaml").is_file()


@pytest.mark.thorough
@pytest.mark.parametrize("written", sorted(WRITTEN), ids=" ".join)
def test_what_is_written_can_be_typed(written: tuple[str, ...]) -> None:
    command, *arguments = written
    assert command in SCRIPTS, WRITTEN[written]
    if not arguments:  # a command that is named, not one that is shown
        return
    name = command.removeprefix("anomap-")
    if not (CONF / f"{name}.yaml").is_file():  # without Hydra
        importlib.import_module(f"anomap.commands.{name}")._parser().parse_args(arguments)
        return
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed(name, arguments)


@pytest.mark.parametrize("wrong", [["trainer.max_epoch=1"], ["+modle=adgan"], ["seed=0,1"], ["-m", "model=adgan,adgn"]])
def test_a_wrong_command_would_be_noticed(wrong: list[str]) -> None:
    with (
        initialize_config_dir(str(CONF), version_base="1.3"),
        pytest.raises(Exception, match=r"max_epoch|modle|-m|adgn"),
    ):
        composed("train", wrong)


# --- every key is explained ---


def unexplained(text: str, own_name: str = "") -> list[str]:
    """The keys of a YAML file without a comment: on their line, right above, or beside the mapping they are in.

    Not asked for: `_target_` and its like, what another key gives (`${...}`), the name of the option itself, a mapping
    (its keys explain themselves), and what is Hydra's own (`defaults`, `hydra`).
    """
    missing, inside, above = [], [], False
    for line in text.splitlines():
        found = re.match(r"( *)([\w.@/]+):(?: +(.*))?$", line)
        if found is None:
            above = line.strip().startswith("#")
            continue
        indent, key, value = len(found[1]), found[2], found[3] or ""
        inside = [entry for entry in inside if entry[0] < indent]
        told = "#" in value or above or any(entry[2] for entry in inside)
        hydras = key in ("defaults", "hydra") or any(entry[1] in ("defaults", "hydra") for entry in inside)
        given = re.fullmatch(r"(\$\{.*\})?", value) or key.startswith("_") or value == own_name
        if not (told or hydras or given):
            missing.append(".".join([*(entry[1] for entry in inside), key]))
        inside.append((indent, key, "#" in value))
        above = False
    return missing


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.relative_to(CONF).as_posix())
def test_every_key_is_explained(path: Path) -> None:
    if path.relative_to(CONF).parts[0] not in PRESETS:
        explained = {key for base in bases(path) for key in keys(base) if key not in unexplained(base.read_text())}
        assert [key for key in unexplained(path.read_text(), own_name=path.stem) if key not in explained] == []


def bases(path: Path) -> Iterator[Path]:
    """The files that a YAML file of `conf/model` is built upon: what they explain, it need not."""
    found: Any = OmegaConf.to_container(OmegaConf.load(path))
    for entry in found.get("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            name = entry.split("@")[0]
            base = (path.parent if (path.parent / f"{name}.yaml").is_file() else CONF / "model") / f"{name}.yaml"
            yield base
            yield from bases(base)


def keys(path: Path) -> list[str]:
    """All keys of a YAML file that hold a value, with dots."""
    return list(flat(OmegaConf.to_container(OmegaConf.load(path))))  # pyright: ignore[reportArgumentType]


def test_a_key_without_a_comment_is_found() -> None:
    text = "a: 1\nb: # all of b\n  c: 2\nd:\n  e: 3\n  # of f\n  f: 4\n  g: 5\n_target_: x\nh: ${a}\nname: own\n"
    assert unexplained(text, "own") == ["a", "d.e", "d.g"]


def test_every_option_is_told_apart_from_its_neighbours() -> None:
    """The second comment line of an option says what it is; copied from another one it would mislead."""
    for group, paths in itertools.groupby(YAMLS, key=lambda path: path.parent):
        first = [path.read_text().splitlines()[0] for path in paths]
        shared = {line for line in first if first.count(line) > 1 and not line.startswith("# @package")}
        assert shared == set(), group
