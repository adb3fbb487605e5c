"""anomap-predict: any number of images -> scores, decisions, overlays, a contact sheet; goes on where it was stopped."""

import shlex
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from anomap.detection.detector import Detector
from anomap.detection.drift import ENOUGH, Drift
from anomap.errors import Stopped, UserError, signal_of
from anomap.prediction import cluster, scoring
from anomap.prediction.folder import DRIFT, UNREADABLE, PredictionSummary, claimed, first_reason, list_unreadable, watch
from anomap.prediction.inputs import OVERLAYS, Inputs, find_inputs
from anomap.prediction.overlays import overlay_path
from anomap.prediction.pictures import draw_sheet
from anomap.prediction.settings import Settings
from anomap.prediction.table import PARQUET, SCORES, as_name, as_text, drop_changed, write_tables
from anomap.runs.checkpoint_file import device_for

ENGINES = {"local": scoring.score, "ray": cluster.score}


class _Speed(ProgressColumn):
    def render(self, task: Any) -> str:
        return f"{task.speed:.1f} images/s" if task.speed else ""


def command(config: dict[str, Any], folder: Path) -> None:
    """Predict, say what was found and where it is, and show the contact sheet if asked to."""
    summary = predict(config, folder)
    print_summary(summary)
    if summary.stopped is not None:
        sys.exit(128 + summary.stopped)  # by the convention of shells
    if config["view"] and summary.sheet is not None:
        from anomap.viewing.system_viewer import open_picture

        print("contact sheet shown" if open_picture(summary.sheet) else f"no screen; see {summary.sheet}")


def predict(config: dict[str, Any], folder: Path) -> PredictionSummary:
    """Score images and write the results, into `folder` unless `output` is set; `config` is `conf/predict.yaml`, plain.

    UserError for wrong input, no image that can be read, or an output folder with results of something else.
    """
    settings = Settings.of(config)
    inputs = find_inputs(settings.input, settings.recursive)
    detector = Detector.load(settings.checkpoint, device_for(settings.device, settings.checkpoint))
    if settings.threshold is not None:
        detector.threshold = settings.threshold
    folder = settings.output or folder
    with claimed(folder, settings.checkpoint, detector.threshold, inputs):
        summary = score(detector, inputs, folder, settings)
        write_tables(folder)
        if summary.stopped is not None:
            return summary
        count = summary.scored + summary.earlier
        if count == 0:
            raise UserError(
                f"input={settings.input}: none of {summary.unreadable} files can be read; the first "
                f"{first_reason(folder / UNREADABLE)}; {folder / UNREADABLE} has all reasons"
            )
        summary.drift = watch(folder, detector, inputs, summary.gone)
        if settings.overlays != "none" or settings.view:
            summary.sheet = draw_sheet(detector, inputs, folder, count)
    return summary


def score(detector: Detector, inputs: Inputs, folder: Path, settings: Settings) -> PredictionSummary:
    """Score what the folder does not hold yet, or holds of files that have changed, until the end or a signal."""
    before = drop_changed(folder, inputs.root)
    for name in before.changed:
        overlay_path(folder / OVERLAYS, as_name(name)).unlink(missing_ok=True)
    done = before.names
    names = [name for name in inputs.names if as_text(name) not in done] if done else inputs.names
    summary = PredictionSummary(folder, earlier=len(done), gone=before.gone, changed=len(before.changed))
    if not names:
        return summary
    start = time.perf_counter()
    parts = ENGINES[settings.engine](detector, inputs, names, folder, settings)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn())
    shown = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    try:
        with closing(parts), shown as bar:
            task = bar.add_task("scoring", total=len(names))
            for scored, abnormal, failures in parts:
                list_unreadable(folder / UNREADABLE, failures)
                summary.scored += scored
                summary.abnormal += abnormal
                summary.unreadable += len(failures)
                bar.advance(task, scored + len(failures))
    except (KeyboardInterrupt, Stopped) as error:
        summary.stopped = signal_of(error)
    summary.seconds = time.perf_counter() - start
    return summary


def _compared(drift: Drift) -> str:
    if drift.changed:
        return "CHANGED since calibration, see the warning"
    seen = "no change seen" if drift.images >= ENOUGH else f"too few images to tell ({ENOUGH} are needed)"
    return f"{seen}, {drift.rate}"


def print_summary(summary: PredictionSummary) -> None:
    """The last lines."""
    folder, overlays = summary.folder, summary.folder / OVERLAYS
    rate = f", {summary.scored / summary.seconds:.1f} images/s" if summary.scored and summary.seconds else ""
    gone = f"; {summary.gone} of these files are gone since" if summary.gone else ""
    listed = f", listed in {folder / UNREADABLE}" if summary.unreadable else ""
    for name, text in (
        ("scored", f"{summary.scored} images{rate}"),
        ("abnormal", summary.abnormal),
        ("earlier", f"{summary.earlier} images were scored before and are kept{gone}" if summary.earlier else None),
        (
            "changed",
            f"{summary.changed} images have changed: their old scores are dropped" if summary.changed else None,
        ),
        ("unreadable", f"{summary.unreadable}{listed}"),
        ("scores", f"{folder / SCORES} and {PARQUET}"),
        ("overlays", overlays if overlays.is_dir() else None),
        ("worst", summary.sheet),
        ("drift", None if summary.drift is None else f"{_compared(summary.drift)}; {folder / DRIFT}"),
        ("interrupted", None if summary.stopped is None else f"give {shlex.quote(f'output={folder}')} to go on"),
    ):
        if text is not None:
            print(f"{name:<12} {text}")
