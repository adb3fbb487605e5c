"""Runs the chosen parts one after the other and keeps everything after each: a stop loses only the part it hits."""

import importlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anomap.errors import UserError
from anomap.runs.folder import write_metrics
from benchmark.plan import Plan

log = logging.getLogger(__name__)

PARTS = ("roofline", "overhead", "peer", "augmentation", "data", "scoring", "memory")
RESULTS = "benchmark.json"


def empty(plan: Plan) -> dict[str, Any]:
    """Every key of every part, null: a number that was not measured is there and says so."""
    return {key: None for part in PARTS for key in _module(part).keys(plan)}


def check_parts(parts: Sequence[str] | None) -> list[str]:
    """The parts in the order they run; None: all.

    Raises:
        UserError: an unknown part.
    """
    chosen = list(PARTS if parts is None else parts)
    for part in chosen:
        if part not in PARTS:
            raise UserError(f"parts={parts}: there is no part {part}; use some of {', '.join(PARTS)}")
    return [part for part in PARTS if part in chosen]


def earlier(folder: Path) -> dict[str, Any]:
    """What a folder holds of an earlier start, or nothing.

    Raises:
        UserError: its file is damaged.
    """
    file = folder / RESULTS
    if not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(f"{file}: not a JSON file; delete it, or give another output=DIR") from None
    if not isinstance(found, dict):
        raise UserError(f"{file}: not a JSON object; delete it, or give another output=DIR")
    return found


def run(plan: Plan, parts: Sequence[str], folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Measure.

    Args:
        plan: how much.
        parts: in order, of `PARTS`.
        folder: where `benchmark.json` is written, and where parts that it holds already are taken from.
        facts: of the machine and the run.

    Returns:
        The flat results: every key of every part, `<part>_seconds`, and `<part>_error` where a part failed.
    """
    before = earlier(folder)
    folder.mkdir(parents=True, exist_ok=True)
    results = {**empty(plan), **facts, **before}
    for part in parts:
        if before.get(f"{part}_seconds") is not None:
            log.info("%s: measured before, kept", part)
            continue
        log.info("%s: measuring", part)
        began = time.perf_counter()
        results.pop(f"{part}_error", None)
        try:
            results |= _measure(part, plan, folder)
            results[f"{part}_seconds"] = time.perf_counter() - began
        except UserError as error:  # such as an extra that is not installed
            results[f"{part}_error"] = str(error)
        except Exception as error:  # one part's failure must not take the others' numbers along
            log.debug("%s failed", part, exc_info=True)
            results[f"{part}_error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if f"{part}_error" in results:
            log.error("%s: failed, its numbers are null: %s", part, results[f"{part}_error"])
        write_metrics(folder / RESULTS, results)
    write_metrics(folder / RESULTS, results)
    return results


def _measure(part: str, plan: Plan, folder: Path) -> dict[str, Any]:
    measure = _module(part).measure
    return measure(plan, folder / "anomalib.log") if part == "peer" else measure(plan)


def _module(part: str) -> Any:
    return importlib.import_module(f"benchmark.{part}")
