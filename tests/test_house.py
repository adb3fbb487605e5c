"""The house: imports go downwards only, and no circle; `docs`' and README's drawing of it is this list."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import anomap

ROOT = Path(anomap.__file__).parent

# From the top. A module may import what stands below its own line, and what lies in its own package.
FLOORS = (
    ("commands",),
    ("cli",),
    ("prediction", "tuning"),
    ("evaluation",),
    ("training",),
    ("detection",),
    ("objectives",),
    ("data", "viewing", "networks", "augmentation"),
    ("runs",),
    ("config", "intervals", "memory"),
    ("errors",),
)
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
OUTSIDE = {"networks": ("pytorch_lightning", "hydra"), "objectives": ("pytorch_lightning", "hydra")}


def imports(source: str) -> Iterator[str]:
    """Every module that a source imports, at whatever depth; `from anomap import x` as `anomap.x`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if node.module == "anomap":
                yield from (f"anomap.{alias.name}" for alias in node.names)
            else:
                yield node.module


def upwards(room: str, source: str) -> list[str]:
    """The imports of a module in `room` that the house does not allow."""
    wrong = []
    for name in imports(source):
        package, *rest = name.split(".")
        target = rest[0] if rest else ""
        if package == "anomap" and target in LEVEL and target != room and LEVEL[target] <= LEVEL[room]:
            wrong.append(name)
        if package in OUTSIDE.get(room, ()):
            wrong.append(name)
    return wrong


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}


def test_every_room_is_on_a_floor() -> None:
    rooms = {name.split(".")[0] for name in modules()} - {"__init__"}
    assert rooms == set(LEVEL)


@pytest.mark.parametrize("name", [name for name in modules() if name != "__init__"])
def test_imports_go_downwards(name: str) -> None:
    assert not upwards(name.split(".")[0], modules()[name].read_text())


def test_no_circle_within_a_room() -> None:
    known = modules()
    graph: dict[str, list[str]] = {}
    for name, path in known.items():
        targets = (found.removeprefix("anomap.") for found in imports(path.read_text()))
        graph[name] = [target for target in targets if target in known and target != name]
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name not in done:
            for target in graph[name]:
                visit(target, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("detection", "from anomap.training.train import train_stage"),
        ("data", "import anomap.objectives.base"),
        ("networks", "import pytorch_lightning as pl"),
        ("viewing", "def late():\n    from anomap import commands"),
        ("augmentation", "from anomap.networks import blocks"),
    ],
)
def test_a_wrong_import_is_seen(room: str, line: str) -> None:
    assert upwards(room, line)


@pytest.mark.thorough
@pytest.mark.parametrize("command", ["evaluate", "export", "calibrate", "predict"])
def test_only_a_training_loads_lightning(command: str) -> None:
    """Nor is loaded what only pictures, fits and pixel metrics need: each of these takes from a third of a second to seconds."""
    late = {"pytorch_lightning", "torchmetrics", "sklearn", "matplotlib", "onnxruntime", "triton"}
    code = f"import sys, anomap.commands.{command}; print(sorted({late} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
