"""anomap-predict: any number of images -> scores, decisions, overlays, a contact sheet; goes on where it was stopped."""

import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from anomap.cli.signals import status
from anomap.detection.detector import Detector
from anomap.detection.devices import device_for
from anomap.errors import Stopped, UserError, signal_of
from anomap.prediction import cluster, local
from anomap.prediction.folder import UNREADABLE, PredictionSummary, claimed, list_unreadable
from anomap.prediction.inputs import OVERLAYS, Inputs, find_inputs
from anomap.prediction.pictures import draw_sheet
from anomap.prediction.progress import progress
from anomap.prediction.settings import Settings
from anomap.prediction.table import PARQUET, SCORES, as_text, scored_names, write_tables

ENGINES = {"local": local.score, "ray": cluster.score}


def command(config: dict[str, Any], folder: Path) -> None:
    """Predict, say what was found and where it is, and show the contact sheet if asked to."""
    summary = predict(config, folder)
    print_summary(summary)
    if summary.stopped is not None:
        sys.exit(status(summary.stopped))
    if config["view"] and summary.sheet is not None:
        from anomap.viewing.system_viewer import open_picture

        print("contact sheet shown" if open_picture(summary.sheet) else f"no screen; see {summary.sheet}")


def predict(config: dict[str, Any], folder: Path) -> PredictionSummary:
    """Score images and write the results.

    Args:
        config: `conf/predict.yaml`, plain containers only.
        folder: where the results go unless `output` is set.

    Raises:
        UserError: the checkpoint, the input or the configuration is wrong, there is no image that can be read, or the
            output folder holds results of something else.
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
        count = summary.scored + summary.earlier
        if count == 0 and summary.stopped is None:
            raise UserError(
                f"input={settings.input}: none of {summary.unreadable} files can be read; {folder / UNREADABLE} says why"
            )
        if summary.stopped is None and (settings.overlays != "none" or settings.view):
            summary = replace(summary, sheet=draw_sheet(detector, inputs, folder, count))
    return summary


def score(detector: Detector, inputs: Inputs, folder: Path, settings: Settings) -> PredictionSummary:
    """Score what the folder does not hold yet, until the end or a signal."""
    done = scored_names(folder)
    names = [name for name in inputs.names if as_text(name) not in done] if done else inputs.names
    summary = PredictionSummary(folder, earlier=len(done))
    if not names:
        return summary
    start = time.perf_counter()
    parts = ENGINES[settings.engine](detector, inputs, names, folder, settings)
    try:
        with closing(parts), progress(len(names)) as advance:
            for scored, abnormal, failures in parts:
                list_unreadable(folder / UNREADABLE, failures)
                summary = summary.plus(scored, abnormal, len(failures))
                advance(scored + len(failures))
    except (KeyboardInterrupt, Stopped) as error:
        summary = replace(summary, stopped=signal_of(error))
    return replace(summary, seconds=time.perf_counter() - start)


def print_summary(summary: PredictionSummary) -> None:
    """The last lines."""
    rate = f", {summary.scored / summary.seconds:.1f} images/s" if summary.scored and summary.seconds else ""
    lines = [("scored", f"{summary.scored} images{rate}"), ("abnormal", str(summary.abnormal))]
    if summary.earlier:
        lines.append(("earlier", f"{summary.earlier} images were scored before and are kept"))
    listed = f", listed in {summary.folder / UNREADABLE}" if summary.unreadable else ""
    lines += [
        ("unreadable", f"{summary.unreadable}{listed}"),
        ("scores", f"{summary.folder / SCORES} and {PARQUET}"),
    ]
    if (summary.folder / OVERLAYS).is_dir():
        lines.append(("overlays", str(summary.folder / OVERLAYS)))
    if summary.sheet is not None:
        lines.append(("worst", str(summary.sheet)))
    if summary.stopped is not None:
        lines.append(("interrupted", f"give output={summary.folder} to go on"))
    for name, text in lines:
        print(f"{name:<12} {text}")
