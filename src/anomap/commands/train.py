"""anomap-train: learn what normal looks like, calibrate on held-out normals, test, report."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig

from anomap.cli import resume
from anomap.config import AUTO, build, check_seed, check_switches
from anomap.data.build import build_data
from anomap.data.differences import doubts
from anomap.data.settle import preliminary, settle
from anomap.data.shrink import lost_defects
from anomap.detection.calibration import check_threshold
from anomap.detection.scoring import ScoringModel
from anomap.errors import UserError, optional
from anomap.evaluation.controls import control_aurocs
from anomap.evaluation.estimate import check_estimate
from anomap.evaluation.outcome import conclude
from anomap.evaluation.summary import print_summary
from anomap.objectives.base import AdversarialObjective
from anomap.runs.folder import RunFolder, remove_temporaries
from anomap.training.checkpoints import goes_on
from anomap.training.loggers import check_loggers
from anomap.training.processes import go_on_alone
from anomap.training.suspicion import check_training, trim
from anomap.training.train import device_of, train_method

log = logging.getLogger(__name__)


def command(config: dict[str, Any], folder: Path) -> None:
    """Train and print the table; with `resume`, go on with an earlier run."""
    if config.get("resume") is not None:
        config, folder = resume.configuration(config, HydraConfig.get().overrides.task)
        if RunFolder(folder).finished:
            print(f"{folder}: finished before, nothing to do; its results are in {RunFolder(folder).metrics}")
            return
    print_summary(train(config, folder), RunFolder(folder))


def train(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train, calibrate, test and report.

    If the folder holds an unfinished training of this very configuration, it goes on from there, and ends with the same
    weights and metrics (times aside) as if it had never stopped. What another run left there is replaced.
    `config` is `conf/train.yaml`, resolved and plain. Returns what `metrics.json` holds.

    Raises:
        UserError: the data or the configuration is wrong; nothing has been trained then.
        Stopped: a signal came while training; the checkpoint to go on from is written.
    """
    check_loggers(config)
    check_seed(config["seed"])
    check_switches(config, "controls", "figures")
    check_estimate(config.get("estimate", AUTO))
    run = RunFolder(folder)
    try:
        config, found = settle(config)
    except UserError:  # what is wrong with the options is said before what is wrong with the data
        options = preliminary(config)
        objective = build(options["model"]["objective"])
        build_data(options["data"], build(options["augmentation"]), config["seed"], objective.stride)
        raise
    pl.seed_everything(config["seed"], verbose=False)
    objective = build(config["model"]["objective"])
    device = device_of(config["trainer"])
    augmentation = build(config["augmentation"])
    needed = isinstance(objective, AdversarialObjective) and objective.uses_augmentation
    data = build_data(config["data"], augmentation if needed else None, config["seed"], objective.stride)
    data.layout = found
    for doubt in doubts(found, config["data"]):
        log.warning("%s", doubt)
    data.setup()
    check_threshold(config["threshold"], len(data.calibration), bool(data.test.labels.any()))
    if (lost := lost_defects(data.test.samples, data.test.masks, config["data"])) is not None:
        log.warning("%s", lost)
    start_over(run, config)

    check = trim(objective, data, device) if data.contamination else None
    objective, stages = train_method(objective, data, config, run)
    if stages:
        go_on_alone()
    detector = ScoringModel(objective, data.image_size, data.tiling, data.scale)
    detector.contamination = data.contamination
    detector.place(str(device))
    if check is None and data.check_training:
        with optional("check of the training images"):
            check = check_training(objective, data, device)
    controls = partial(control_aurocs, data, data.image_size, device) if config["controls"] else dict
    return conclude(detector, data, config, run, stages, controls, check)


def start_over(run: RunFolder, config: dict[str, Any]) -> None:
    """Remove what must not be taken for this run's: results and checkpoints of another, half-written files."""
    checkpoints = (run.last_checkpoint, run.stage1.last_checkpoint)
    kept = [] if run.finished else [path for path in checkpoints if goes_on(path, config)]
    for path in {run.metrics, run.suspicious, *checkpoints}.difference(kept):
        path.unlink(missing_ok=True)
    remove_temporaries(run.path)
    if kept:
        log.info("%s: going on from its checkpoint", run.path)
