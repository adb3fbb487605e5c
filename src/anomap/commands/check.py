"""anomap-check: does a data set fit, before anything is trained? Imports no torch."""

import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from rich.console import Console
from rich.table import Table

from anomap.cli.schema import is_path
from anomap.config import check_switches, check_whole, unquoted
from anomap.data.check import Check, examine, limited
from anomap.data.samples import split_calibration
from anomap.detection.calibration import Threshold, resolve_threshold
from anomap.runs.folder import write_metrics

FRACTIONS = (0.2, 0.25, 0.3, 0.4)  # of `data.calibration_fraction` that are proposed
_ONE_PART = ("control_", "ganomaly", "skip_")  # begin the names of models whose score has no `parts` to choose


def command(config: dict[str, Any], folder: Path) -> None:
    """Look, and say what was found."""
    found = check(config)
    if config["write"]:
        numbered = {f"warning_{number}": line for number, line in enumerate(found.warnings, 1)}
        facts = {**found.facts, "n_warnings": len(numbered), "set": " ".join(_overrides(found)) or None, **numbered}
        write_metrics(folder / "check.json", facts)
    print_check(found, HydraConfig.get().overrides.task if HydraConfig.initialized() else [])
    if config["write"]:
        print(f"written      {folder / 'check.json'}")


def check(config: Mapping[str, Any]) -> Check:
    """What is to be known of a data set; `config` is `conf/check.yaml`, plain. UserError for what no training could begin with."""
    check_switches(config, "write")
    check_whole("pixels", config["pixels"], 1)
    found = examine(config["data"], config["pixels"])
    if found.normal and config["threshold"].get("strategy") in ("quantile", "gaussian"):
        _promise(found, config)
    return found


def print_check(found: Check, given: list[str]) -> None:
    """A table, a line for each warning, and what to set; `given` are the overrides of this command."""
    console = Console(soft_wrap=True)
    table = Table(title="what is there", title_justify="left", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in found.rows.items():
        table.add_row(name, text)
    Console().print(table, markup=False)
    for line in found.warnings:
        console.print("[yellow]warning[/yellow]      ", end="")
        console.print(line, markup=False, highlight=False)
    overrides = _overrides(found)
    pairs = [line.partition("=") for line in given]
    own = [
        f"{key}={unquoted(value) if is_path(key) else value}"
        for key, _, value in pairs
        if key not in (*found.settings, "pixels", "write")
    ]
    own = own if any(line.startswith("data=") for line in own) else ["data=folder", *own]
    print(f"set          {' '.join(map(shlex.quote, overrides)) or 'nothing'}")
    print(f"train        anomap-train {' '.join(map(shlex.quote, [*own, *overrides]))}")


def _overrides(found: Check) -> list[str]:
    return [f"{key}={value}" for key, value in found.settings.items()]


def _promise(found: Check, config: Mapping[str, Any]) -> None:
    """How many false alarms the threshold could promise at most, and what would promise those that are asked for."""
    data, limit = config["data"], config["data"].get("limit")
    looks = len(data.get("scales") or [1])
    several = (scales(config["model"]) or looks > 1) and not found.aligned  # which makes one part

    def split(fraction: float) -> tuple[int, int, Threshold]:
        """How many images train, how many set the threshold, and what that would be worth."""
        train, calibration = limited(split_calibration(found.normal, fraction, found.same), limit)
        different = len({found.same.get(sample.name, sample.name) for sample in calibration})
        deciding = len(calibration) - (different // 2 if several else 0)
        contamination = float(data.get("contamination") or 0)
        threshold = resolve_threshold(config["threshold"], np.zeros(deciding), contamination=contamination)
        return len(train), deciding, threshold

    train, deciding, threshold = split(data["calibration_fraction"])
    if threshold.promised_fpr is None:
        return
    found.facts |= {"promised_fpr": threshold.promised_fpr, "n_deciding": deciding}
    others = (
        f", {int(found.facts['n_calibration'] or 0) - deciding} others the scale of the score's parts"
        if several
        else ""
    )
    found.rows["promise"] = (
        f"at most {100 * threshold.promised_fpr:.1f} % false alarms: {deciding} normals set the threshold{others}"
    )
    if not threshold.note:
        return
    quantile = config["threshold"]["quantile"]
    wanted = math.ceil(quantile / (1 - quantile)) * (1 + several) / data["calibration_fraction"]
    advice = f"about {10 * math.ceil(wanted / 10)} normal images would do"
    for fraction in (fraction for fraction in FRACTIONS if fraction > data["calibration_fraction"]):
        train, _, better = split(fraction)
        if not better.note or fraction == FRACTIONS[-1]:
            found.settings["data.calibration_fraction"] = f"{fraction:g}"
            promised = f"promises {better.promised_fpr:.3g}, and leaves {train} to learn from"
            advice += f"; data.calibration_fraction={fraction:g} {promised}"
            break
    found.warnings.append(f"{threshold.note}; {advice}")


def scales(model: Mapping[str, Any]) -> bool:
    """Whether some calibration images set the scale of the score's parts: it has several. Asks the configuration, without torch."""
    parts = model["objective"].get("parts")
    if parts is None:
        return not model["name"].startswith(_ONE_PART)
    return (sum(map(bool, parts.values())) if isinstance(parts, Mapping) else len(parts)) > 1
