"""anomap-predict: any number of images -> scores, decisions, overlays, a contact sheet; goes on where it was stopped."""

import hashlib
import heapq
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from anomap.data.decode import in_flight
from anomap.data.inputs import CONTACT_SHEET, MARKER, OVERLAYS, Inputs, find_inputs
from anomap.detection.detector import Detector, Images
from anomap.errors import UserError
from anomap.prediction_table import (
    PREDICTION_COLUMNS,
    GrowingTable,
    PredictionRow,
    mend,
    read_predictions,
    write_parquet,
)
from anomap.results import ABNORMAL, escape_cell, write_atomically

SCORES, PARQUET, UNREADABLE = "scores.csv", "scores.parquet", "unreadable.csv"
OVERLAY_CHOICES = ("anomalies", "all", "none")
SHEET_IMAGES = 24
INTERRUPTED = 130  # exit status, as shells give it after Ctrl-C


@dataclass(frozen=True)
class Outcome:
    """What a prediction did.

    Attributes:
        folder: where the files are.
        scored: images scored now.
        abnormal: of these, decided abnormal.
        earlier: images that `scores.csv` held already.
        unreadable: files left out.
        seconds: of reading, scoring and drawing.
        interrupted: stopped before the end; the files are valid, and the same command goes on.
        sheet: the contact sheet, if one was drawn.
    """

    folder: Path
    scored: int = 0
    abnormal: int = 0
    earlier: int = 0
    unreadable: int = 0
    seconds: float = 0.0
    interrupted: bool = False
    sheet: Path | None = None


def command(config: dict[str, Any], folder: Path) -> None:
    """Predict, say what was found and where it is, and show the contact sheet if asked to."""
    outcome = predict(config, folder)
    print_outcome(outcome)
    if outcome.interrupted:
        sys.exit(INTERRUPTED)
    if config["view"] and outcome.sheet is not None:
        from anomap.viewing.system_viewer import open_picture

        print("contact sheet shown" if open_picture(outcome.sheet) else f"no screen; see {outcome.sheet}")


def predict(config: dict[str, Any], folder: Path) -> Outcome:
    """Score images and write the results.

    Args:
        config: `conf/predict.yaml`, plain containers only.
        folder: where the results go unless `output` is set.

    Raises:
        UserError: the checkpoint, the input or the configuration is wrong, there is no image that can be read, or the
            output folder holds results of something else.
    """
    threshold = _checked(config)
    checkpoint = _checkpoint(config["checkpoint"])
    inputs = find_inputs(config["input"], config["recursive"])
    detector = Detector.load(checkpoint, config["device"])
    if threshold is not None:
        detector.threshold = threshold
    if config["output"] is not None:
        folder = Path(config["output"]).expanduser()
    done = _open_folder(folder, checkpoint, detector.threshold, inputs)
    outcome = _score(detector, inputs, done, folder, config["overlays"], config["batch_size"])
    write_parquet(folder / SCORES, folder / PARQUET)
    if outcome.scored + outcome.earlier == 0 and not outcome.interrupted:
        raise UserError(
            f"input={config['input']}: none of {outcome.unreadable} files can be read; {folder / UNREADABLE} says why"
        )
    if not outcome.interrupted and (config["overlays"] != "none" or config["view"]):
        outcome = replace(outcome, sheet=_draw_sheet(detector, inputs, folder))
    return outcome


def print_outcome(outcome: Outcome) -> None:
    """The last lines."""
    rate = f", {outcome.scored / outcome.seconds:.1f} images/s" if outcome.scored and outcome.seconds else ""
    lines = [("scored", f"{outcome.scored} images{rate}"), ("abnormal", str(outcome.abnormal))]
    if outcome.earlier:
        lines.append(("earlier", f"{outcome.earlier} images were scored before and are kept"))
    listed = f", listed in {outcome.folder / UNREADABLE}" if outcome.unreadable else ""
    lines += [("unreadable", f"{outcome.unreadable}{listed}"), ("scores", f"{outcome.folder / SCORES} and {PARQUET}")]
    if (outcome.folder / OVERLAYS).is_dir():
        lines.append(("overlays", str(outcome.folder / OVERLAYS)))
    if outcome.sheet is not None:
        lines.append(("worst", str(outcome.sheet)))
    if outcome.interrupted:
        lines.append(("interrupted", f"give output={outcome.folder} to go on"))
    for name, text in lines:
        print(f"{name:<12} {text}")


# --- what the user gave ---


def _checked(config: dict[str, Any]) -> float | None:
    """The threshold; UserError for a value that no key can have."""
    if config["input"] is None:
        raise UserError("input is not set: give input=FILE, input=DIR or input='\"DIR/*.png\"'")
    if config["overlays"] not in OVERLAY_CHOICES:
        raise UserError(f"overlays={config['overlays']}: give one of {', '.join(OVERLAY_CHOICES)}")
    for key in ("recursive", "view"):
        if not isinstance(config[key], bool):
            raise UserError(f"{key}={config[key]}: give true or false")
    size = config["batch_size"]
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise UserError(f"batch_size={size}: give a whole number of at least 1")
    strategy, threshold = config["threshold"].get("strategy", "manual"), config["threshold"].get("value")
    if strategy != "manual":
        raise UserError(f"threshold={strategy}: give threshold.value=NUMBER; anomap-evaluate chooses one from scores")
    if threshold is None:
        return None
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not math.isfinite(threshold):
        raise UserError(f"threshold.value={threshold}: not a number; leave it out for the checkpoint's own")
    return float(threshold)


def _checkpoint(given: str | None) -> Path:
    if not given:
        raise UserError(
            "checkpoint is not set: give checkpoint=CKPT, a run's checkpoints/last.ckpt or an exported .onnx"
        )
    path = Path(given).expanduser()
    if not path.is_file():
        raise UserError(f"checkpoint={given}: no such file; give a run's checkpoints/last.ckpt or an exported .onnx")
    return path


# --- the folder of results ---


def _open_folder(folder: Path, checkpoint: Path, threshold: float, inputs: Inputs) -> set[str]:
    """Make the folder, or take up its results; the names that are done.

    Raises:
        UserError: the folder holds results of another checkpoint, threshold or input, or cannot be written to.
    """
    made_by = {
        "checkpoint": str(checkpoint.resolve()),
        "checkpoint_blake2b": _digest(checkpoint),
        "threshold": threshold,
        "input": str(inputs.root.resolve()),
    }
    marker, scores = folder / MARKER, folder / SCORES
    if marker.exists():
        _check_made_by(marker, made_by)
    elif scores.exists():
        raise UserError(f"output={folder}: holds a {SCORES} that anomap-predict did not write; give another output=DIR")
    else:
        try:
            write_atomically(marker, json.dumps(made_by, indent=2) + "\n")
        except OSError as error:
            raise UserError(
                f"output={folder}: cannot be written ({error.strerror}); give another output=DIR"
            ) from error
    (folder / UNREADABLE).unlink(missing_ok=True)  # these files are tried again
    if not scores.exists():
        return set()
    mend(scores)
    if scores.stat().st_size == 0:
        return set()
    return {row.path for row in read_predictions(scores)}


def _check_made_by(marker: Path, made_by: dict[str, Any]) -> None:
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
        named = {key: found[key] for key in made_by}
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError(f"{marker}: cannot be read, or is another program's; give another output=DIR") from None
    for key, name in (("checkpoint_blake2b", "checkpoint"), ("threshold", "threshold"), ("input", "input")):
        if named[key] != made_by[key]:
            raise UserError(
                f"output={marker.parent}: holds scores of another {name} ({named[name]}); give that one to go on there, or "
                "another output=DIR"
            )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


# --- scoring ---


def _score(detector: Detector, inputs: Inputs, done: set[str], folder: Path, overlays: str, batch_size: int) -> Outcome:
    """Score what is not done, and append it to the tables as it comes."""
    names = [name for name in inputs.names if name not in done]
    scored = abnormal = unreadable = 0
    interrupted = False
    start = time.perf_counter()
    with ExitStack() as stack:
        table = stack.enter_context(GrowingTable(folder / SCORES, PREDICTION_COLUMNS))
        failures: GrowingTable | None = None
        progress = stack.enter_context(_progress())
        task = progress.add_task("scoring", total=len(names))
        try:
            stack.enter_context(_terminated_as_interrupted())
            batches = stack.enter_context(closing(_batches(detector, inputs, names, batch_size)))
            for batch in batches:
                if batch.failures:
                    failures = failures or stack.enter_context(GrowingTable(folder / UNREADABLE, ("path", "reason")))
                    failures.append([(escape_cell(name), escape_cell(reason)) for name, reason in batch.failures])
                    unreadable += len(batch.failures)
                if batch.names:
                    scores, maps = detector.score_batch(np.stack(batch.images))
                    rows = [
                        PredictionRow.decide(name, score, detector.threshold)
                        for name, score in zip(batch.names, scores, strict=True)
                    ]
                    _draw(detector, rows, batch.images, maps, folder, overlays)  # first: a row says that all is done
                    table.append([row.cells() for row in rows])
                    scored += len(rows)
                    abnormal += sum(row.prediction == ABNORMAL for row in rows)
                progress.update(task, completed=scored + unreadable)
        except KeyboardInterrupt:
            interrupted = True
    return Outcome(folder, scored, abnormal, len(done), unreadable, time.perf_counter() - start, interrupted)


@dataclass(frozen=True)
class _Batch:
    """Images that belong together in one call of the model, and files between them that cannot be read."""

    names: list[str]
    images: list[Images]
    failures: list[tuple[str, str]]


def _batches(detector: Detector, inputs: Inputs, names: Sequence[str], size: int) -> Generator[_Batch, None, None]:
    """Read ahead on a few threads; only a few images beyond the batch are in memory."""
    batch = _Batch([], [], [])
    with closing(in_flight(names, lambda name: detector.preprocessing.read(inputs.path(name)))) as read:
        for name, future in read:
            try:
                image = future.result()
            except UserError as error:
                batch.failures.append((name, _reason(error, inputs.path(name))))
            else:
                batch.names.append(name)
                batch.images.append(image)
            if size in (len(batch.images), len(batch.failures)):
                yield batch
                batch = _Batch([], [], [])
    yield batch


def _reason(error: UserError, path: Path) -> str:
    """Why a file cannot be read, without its name and without advice for a training."""
    return str(error).removeprefix("cannot read image ").removeprefix(f"{path}").lstrip(": ").split("; mend or")[0]


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM, which schedulers send before they kill, ends the scoring as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():  # others cannot take signals
        yield
        return

    def interrupt(_number: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Speed(ProgressColumn):
    def render(self, task: Any) -> str:
        return f"{task.speed:.1f} images/s" if task.speed else ""


def _progress() -> Progress:
    """A bar on standard error, where that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())


# --- pictures; matplotlib is imported only if there is something to draw ---


def _draw(
    detector: Detector, rows: Sequence[PredictionRow], images: Sequence[Images], maps: Any, folder: Path, overlays: str
) -> None:
    """Write the overlays that are asked for."""
    if overlays == "none":
        return
    for row, image, plane in zip(rows, images, maps, strict=True):
        if overlays == "all" or row.prediction == ABNORMAL:
            from anomap.viewing.overlays import overlay_path, write_png

            write_png(overlay_path(folder / OVERLAYS, row.path), _overlay(detector, image, plane))


def _overlay(detector: Detector, image: Images, plane: Any) -> Images:
    from anomap.viewing.figures import overlay

    return overlay(image, plane, detector.map_scale, detector.pixel_threshold)


def _draw_sheet(detector: Detector, inputs: Inputs, folder: Path) -> Path | None:
    """The contact sheet of all that was ever scored in this folder: the few images on it are scored once more."""
    from anomap.viewing.figures import save_figure
    from anomap.viewing.overlays import Tile, contact_sheet

    count = sum(1 for _ in read_predictions(folder / SCORES))
    worst = heapq.nlargest(SHEET_IMAGES, read_predictions(folder / SCORES), key=lambda row: row.score)
    tiles: list[Tile] = []
    for row in worst:
        try:
            image = detector.preprocessing.read(inputs.path(row.path))
        except UserError:  # gone since
            continue
        _, maps = detector.score_batch(image[None])
        tiles.append(Tile(_overlay(detector, image, maps[0]), row.path, row.score, int(row.prediction == ABNORMAL)))
    if not tiles:
        return None
    path = folder / CONTACT_SHEET
    title = f"Highest {len(tiles)} of {count} scores · threshold {detector.threshold:.4g}"
    save_figure(contact_sheet(tiles, title), path)
    return path
