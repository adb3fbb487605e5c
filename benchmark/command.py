"""python scripts/benchmark.py: how fast anomap is and how much memory it takes, beside a loop, a peer and the machine's limit."""

import dataclasses
import logging
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from anomap.cli.schema import nearest
from anomap.cli.signals import fail
from anomap.config import check_switches, plain
from anomap.errors import UserError
from anomap.memory import keep_memory
from anomap.runs.folder import write_atomically
from anomap.viewing.figures import save_figure
from benchmark import machine, suite
from benchmark.chart import chart
from benchmark.plan import FULL, QUICK, Plan
from benchmark.table import insert, markdown

KEYS = Path(__file__).with_name("benchmark.yaml")


def main() -> None:
    """Measure with the command line's `key=value` over `benchmark.yaml`, and print the tables; exit status 2 for a wrong key."""
    if {"-h", "--help"} & set(sys.argv):
        print(KEYS.read_text(), end="")
        return
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s] %(message)s")
    keep_memory()  # as every command of anomap does
    try:
        config = configured(sys.argv[1:])
        folder = Path(config["output"] or datetime.now().strftime("outputs/benchmark/%Y-%m-%d/%H-%M-%S.%f"))
        print(f"{markdown(benchmark(config, folder.expanduser()))}\n{folder / suite.RESULTS}")
    except UserError as error:
        fail(str(error))


def configured(overrides: Sequence[str]) -> dict[str, Any]:
    """The keys of `benchmark.yaml`, with `key=value` in their place.

    Raises:
        UserError: an unknown key, or a value that is no YAML.
    """
    config = OmegaConf.load(KEYS)
    known = [str(key) for key in config]
    for line in overrides:
        key = line.partition("=")[0]
        if key not in known or "=" not in line:
            raise UserError(f"{line}: no such key; did you mean {nearest(key, known) or ', '.join(known)}=?")
    try:
        return plain(OmegaConf.merge(config, OmegaConf.from_dotlist(list(overrides))))  # pyright: ignore[reportArgumentType]
    except (OmegaConfBaseException, YAMLError) as error:
        raise UserError(f"{' '.join(overrides)}: {str(error).splitlines()[0]}") from error


def benchmark(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Measure and write `benchmark.json`, `benchmark.md` and `benchmark.png`.

    Args:
        config: `benchmark.yaml`, plain containers only.
        folder: where the files go; parts that its `benchmark.json` holds are not measured again.

    Returns:
        What `benchmark.json` holds.

    Raises:
        UserError: the configuration is wrong.
    """
    parts = suite.check_parts(config["parts"])
    plan = planned(config)
    facts = {**machine.describe(), "quick": config["quick"], "rounds": plan.rounds}
    results = suite.run(plan, parts, folder, {**facts, "seed": plan.seed})
    text = markdown(results)
    write_atomically(folder / "benchmark.md", text)
    save_figure(chart(results), folder / "benchmark.png")
    if config["document"] is not None:
        insert(Path(config["document"]).expanduser(), text)
    return results


def planned(config: dict[str, Any]) -> Plan:
    """How much is measured.

    Raises:
        UserError: a value that no key can have.
    """
    check_switches(config, "quick")
    plan = QUICK if config["quick"] else FULL
    rounds = config["rounds"]
    if rounds is None:
        return dataclasses.replace(plan, seed=config["seed"])
    if not isinstance(rounds, int) or isinstance(rounds, bool) or rounds < 1:
        raise UserError(f"rounds={rounds}: give a whole number of at least 1")
    return dataclasses.replace(plan, rounds=rounds, seed=config["seed"])
