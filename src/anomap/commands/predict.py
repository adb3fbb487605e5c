"""anomap-predict: any number of images -> scores, decisions, overlays, a contact sheet; goes on where it was stopped."""

import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from anomap.cli.signals import status
from anomap.config import check_switches
from anomap.detection.detector import Detector
from anomap.errors import UserError
from anomap.prediction import local as predict_local
from anomap.prediction import ray as predict_ray
from anomap.prediction.folder import PARQUET, SCORES, SHARDS, UNREADABLE, Outcome, claim
from anomap.prediction.inputs import OVERLAYS, find_inputs
from anomap.prediction.scoring import draw_sheet

ENGINES = {"local": predict_local, "ray": predict_ray}
OVERLAY_CHOICES = ("anomalies", "all", "none")


def command(config: dict[str, Any], folder: Path) -> None:
    """Predict, say what was found and where it is, and show the contact sheet if asked to."""
    outcome = predict(config, folder)
    print_outcome(outcome)
    if outcome.stopped is not None:
        sys.exit(status(outcome.stopped))
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
    engine = ENGINES[config["engine"]]
    claim(folder, checkpoint, detector.threshold, inputs, config["engine"])
    outcome = engine.score(detector, inputs, folder, {**config, "checkpoint": str(checkpoint.resolve())})
    if outcome.scored + outcome.earlier == 0 and outcome.stopped is None:
        raise UserError(
            f"input={config['input']}: none of {outcome.unreadable} files can be read; {folder / UNREADABLE} says why"
        )
    if outcome.stopped is None and (config["overlays"] != "none" or config["view"]):
        outcome = replace(outcome, sheet=draw_sheet(detector, inputs, folder, lambda: engine.rows(folder)))
    return outcome


def print_outcome(outcome: Outcome) -> None:
    """The last lines."""
    rate = f", {outcome.scored / outcome.seconds:.1f} images/s" if outcome.scored and outcome.seconds else ""
    lines = [("scored", f"{outcome.scored} images{rate}"), ("abnormal", str(outcome.abnormal))]
    if outcome.earlier:
        lines.append(("earlier", f"{outcome.earlier} images were scored before and are kept"))
    listed = f", listed in {outcome.folder / UNREADABLE}" if outcome.unreadable else ""
    lines += [("unreadable", f"{outcome.unreadable}{listed}"), ("scores", _scores_of(outcome.folder))]
    if (outcome.folder / OVERLAYS).is_dir():
        lines.append(("overlays", str(outcome.folder / OVERLAYS)))
    if outcome.sheet is not None:
        lines.append(("worst", str(outcome.sheet)))
    if outcome.stopped is not None:
        lines.append(("interrupted", f"give output={outcome.folder} to go on"))
    for name, text in lines:
        print(f"{name:<12} {text}")


def _scores_of(folder: Path) -> str:
    shards = folder / SHARDS
    return f"{shards}/*.parquet" if shards.is_dir() else f"{folder / SCORES} and {PARQUET}"


# --- what the user gave ---


def _checked(config: dict[str, Any]) -> float | None:
    """The threshold; UserError for a value that no key can have."""
    if config["input"] is None:
        raise UserError("input is not set: give input=FILE, input=DIR or input='\"DIR/*.png\"'")
    if config["overlays"] not in OVERLAY_CHOICES:
        raise UserError(f"overlays={config['overlays']}: give one of {', '.join(OVERLAY_CHOICES)}")
    if config["engine"] not in ENGINES:
        raise UserError(f"engine={config['engine']}: give one of {', '.join(ENGINES)}")
    check_switches(config, "recursive", "view")
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
