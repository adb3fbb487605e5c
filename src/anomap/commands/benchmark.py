"""anomap-benchmark: how fast anomap is and how much memory it takes, beside a bare loop, its peer and the machine's limit."""

import dataclasses
from pathlib import Path
from typing import Any

from anomap.benchmark import machine, suite
from anomap.benchmark.chart import chart
from anomap.benchmark.plan import FULL, QUICK, Plan
from anomap.benchmark.table import insert, markdown
from anomap.config import check_switches
from anomap.errors import UserError
from anomap.results import write_atomically
from anomap.viewing.figures import save_figure


def command(config: dict[str, Any], folder: Path) -> None:
    """Measure, and print the tables."""
    folder = Path(config["output"]).expanduser() if config["output"] is not None else folder
    print(f"{markdown(benchmark(config, folder))}\n{folder / suite.RESULTS}")


def benchmark(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Measure and write `benchmark.json`, `benchmark.md` and `benchmark.png`.

    Args:
        config: `conf/benchmark.yaml`, plain containers only.
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
