"""anomap-predict engine=local: one process, a `scores.csv` that grows and is valid at every moment."""

import time
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from anomap.detection.detector import Detector
from anomap.errors import Stopped, signal_of
from anomap.prediction.folder import PARQUET, SCORES, UNREADABLE, Outcome
from anomap.prediction.inputs import Inputs
from anomap.prediction.scoring import progress, scored
from anomap.prediction.table import (
    PREDICTION_COLUMNS,
    GrowingTable,
    PredictionRow,
    mend,
    read_predictions,
    write_parquet,
)
from anomap.runs.scores import ABNORMAL, escape_cell


def score(detector: Detector, inputs: Inputs, folder: Path, config: dict[str, Any]) -> Outcome:
    """Score what is not done, append it to the tables as it comes, and make `scores.parquet` at the end.

    Raises:
        UserError: the table is none of anomap-predict's, or cannot be written.
    """
    done = _done(folder / SCORES)
    names = [name for name in inputs.names if name not in done] if done else inputs.names
    outcome = Outcome(folder, earlier=len(done))
    start = time.perf_counter()
    with ExitStack() as stack:
        table = stack.enter_context(GrowingTable(folder / SCORES, PREDICTION_COLUMNS))
        failed: GrowingTable | None = None
        bar = stack.enter_context(progress())
        task = bar.add_task("scoring", total=len(names))
        try:
            parts = scored(detector, inputs, names, folder, config["overlays"], config["batch_size"])
            for rows, failures in stack.enter_context(closing(parts)):
                if failures:
                    failed = failed or stack.enter_context(GrowingTable(folder / UNREADABLE, ("path", "reason")))
                    failed.append([(escape_cell(name), escape_cell(reason)) for name, reason in failures])
                table.append([row.cells() for row in rows])
                abnormal = sum(row.prediction == ABNORMAL for row in rows)
                outcome = outcome.plus(len(rows), abnormal, len(failures))
                bar.update(task, completed=outcome.scored + outcome.unreadable)
        except (KeyboardInterrupt, Stopped) as error:
            outcome = replace(outcome, stopped=signal_of(error))
    write_parquet(folder / SCORES, folder / PARQUET)
    return replace(outcome, seconds=time.perf_counter() - start)


def rows(folder: Path) -> Iterable[PredictionRow]:
    """All that was ever scored in the folder."""
    return read_predictions(folder / SCORES)


def _done(scores: Path) -> set[str]:
    """The names that a table holds, once a torn last line is cut off."""
    if not scores.exists():
        return set()
    mend(scores)
    return {row.path for row in read_predictions(scores)} if scores.stat().st_size else set()
