"""anomap-calibrate: scale and thresholds anew from new normal images, without training; a new checkpoint beside the old one."""

import datetime
import logging
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from anomap.data.build import build_data
from anomap.data.settle import absolute_folders
from anomap.detection import checkpoint
from anomap.errors import UserError
from anomap.evaluation.recalibrate import (
    LIKELY,
    Recalibration,
    calibration_only,
    new_normals,
    recalibrate,
    without_trained,
)
from anomap.runs.checkpoint_file import check_place, checkpoint_file, device_for
from anomap.runs.folder import RunFolder, write_metrics
from anomap.runs.scores import ScoreRow, write_scores

log = logging.getLogger(__name__)

STRATEGIES = ("quantile", "gaussian")  # that ask calibration normals
_NAMED = re.compile(r"(.*?)-recalibrated(-\d+)?")


def command(config: dict[str, Any], folder: Path) -> None:
    """Calibrate, and say what was promised before and is now."""
    print_summary(calibrate(config, folder), folder)


def calibrate(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write the new checkpoint, and into `folder` `scores.csv` and last `metrics.json`, which is returned.

    `config` is `conf/calibrate.yaml`, resolved and plain. UserError if it, the checkpoint or the images are wrong; nothing
    is written then.
    """
    old = checkpoint_file(config)
    new_checkpoint(config["output"], old)  # refuses a wrong one before the scoring
    detector, trained = checkpoint.load_model(old)
    section = checkpoint.read(old)[checkpoint.SECTION]
    wanted = threshold_config(config["threshold"], trained["threshold"])
    given = absolute_folders(config["data"])
    used, normals, found = new_normals(given, trained["data"])
    skip = used.get("on_error") == "skip"
    normals, unknown = without_trained(normals, trained["data"], section.get("trained", {}).get("n_train", 0), skip)
    log.info(
        "%s: %d normal images%s", given_source(used), len(normals), f"; {found.left_out}" if found.left_out else ""
    )
    detector.place(device_for(config["device"], old))
    data = build_data(used, stride=detector.objective.stride)
    calibration_only(data, normals, found)
    done = recalibrate(detector, data, trained["threshold"], wanted)

    note = {
        "source": given_source(used),
        "images": len(done.names),
        "date": datetime.datetime.now().isoformat(timespec="seconds"),
        "instead_of": str(old.resolve()),
    }
    suspected = {**trained["data"], "contamination": detector.contamination}
    new = {**trained, "data": suspected, "threshold": wanted, "calibration": note}
    kept = {key: value for key, value in section.items() if key == "trained"}
    path = claimed(config["output"], old)
    try:
        checkpoint.save(path, {checkpoint.SECTION: {**checkpoint.section(detector, new), **kept}})
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    run = RunFolder(folder)
    rows = (
        ScoreRow.decide(name, 0, "normal", s, done.threshold.value)
        for name, s in zip(done.names, done.scores, strict=True)
    )
    write_scores(run.scores, rows)
    metrics = measured(done, trained, note) | {"unknown_note": unknown or None, "checkpoint": str(path)}
    write_metrics(run.metrics, metrics)
    return metrics


def measured(done: Recalibration, trained: Mapping[str, Any], note: Mapping[str, Any]) -> dict[str, Any]:
    """What `metrics.json` holds."""
    new, old = done.threshold, done.before
    return {
        "threshold": new.value,
        "threshold_strategy": new.strategy,
        "threshold_note": new.note or None,
        "promised_fpr": new.promised_fpr,
        "calibration_fpr": new.calibration_fpr,
        "n_calibration": len(done.names),
        "n_scaling": done.n_scaling,
        "old_threshold": old.value,
        "old_promised_fpr": old.promised_fpr,
        "old_alarms": done.alarms,
        "old_alarm_rate": done.alarms / len(done.names),
        "old_alarms_chance": done.chance,
        "needed_note": done.needed,
        "promise_note": promise_note(done, Path(note["instead_of"])),
        "source": note["source"],
        "old_checkpoint": note["instead_of"],
        **{group: trained[group]["name"] for group in ("model", "data")},
    }


def promise_note(done: Recalibration, old: Path) -> str:
    """The old promise withdrawn, and the new one."""
    before, now = done.before.promised_fpr, done.threshold.promised_fpr
    withdrawn = f" (at most {100 * before:.1f} % false alarms)" if before is not None else ""
    fate = "is withdrawn" if done.chance is not None and done.chance >= LIKELY else "no longer holds"
    deciding = len(done.names) - done.n_scaling
    made = f"promises at most {100 * now:.1f} %, from {deciding} normals" if now is not None else "promises nothing"
    return f"the promise of {old.name}{withdrawn} {fate}; this one {made}"


def given_source(data: Mapping[str, Any]) -> str:
    """The folder of the new normals; the name of a data set that needs none."""
    return str(data.get("normal_dir") or data.get("root") or data["name"])


def threshold_config(given: Mapping[str, Any], trained: Mapping[str, Any]) -> dict[str, Any]:
    """The `threshold` group to set: the training's, but for what is given. UserError: one that asks no calibration normals."""
    wanted = {**trained, **{key: value for key, value in given.items() if value is not None}}
    if wanted.get("strategy") not in STRATEGIES:
        raise UserError(
            f"threshold.strategy={wanted.get('strategy')}: is not set from normal images; give threshold=quantile, or gaussian"
        )
    return {"strategy": wanted["strategy"], "quantile": wanted.get("quantile", 0.95)}


def new_checkpoint(given: str | None, old: Path) -> Path:
    """Where the new checkpoint goes: a file that is not there yet. UserError if there is one, or no folder to write to."""
    if given is None:
        named = _NAMED.fullmatch(old.stem)
        stem = f"{named[1] if named else old.stem}-recalibrated"
        names = (f"{stem}{f'-{number}' if number > 1 else ''}{old.suffix}" for number in count(1))
        path = next(path for path in map(old.with_name, names) if not path.exists())
    else:
        path = Path(os.path.expanduser(given))
    if path.exists():
        raise UserError(f"output={path}: exists, and is not overwritten; give another name, or leave output out")
    if path.suffix in (".onnx", ".pt2"):
        raise UserError(f"output={path}: is to be a checkpoint; name it .ckpt, then anomap-export it")
    check_place(path)
    return path


def claimed(given: str | None, old: Path) -> Path:
    """`new_checkpoint`, an empty file by now: of several commands that calibrate at a time none takes another's name."""
    while True:
        path = new_checkpoint(given, old)
        with suppress(FileExistsError):
            path.touch(exist_ok=False)
            return path


def print_summary(metrics: Mapping[str, Any], folder: Path) -> None:
    """The last lines."""
    deciding = metrics["n_calibration"] - metrics["n_scaling"]
    scale = " (on a new scale)" if metrics["n_scaling"] else ""
    for name, text in (
        (
            "calibrated",
            f"{metrics['n_calibration']} normal images of {metrics['source']}: {deciding} set the threshold",
        ),
        ("before", metrics["needed_note"]),
        (
            "threshold",
            f"{metrics['old_threshold']:.4g} before, {metrics['threshold']:.4g} now{scale}",
        ),
        ("promise", metrics["promise_note"]),
        ("note", metrics["threshold_note"]),
        ("note", metrics["unknown_note"]),
        ("scores", RunFolder(folder).scores),
        ("checkpoint", metrics["checkpoint"]),
    ):
        if text:
            print(f"{name:<12} {text}")
