"""anomap-train: learn what normal looks like, calibrate on held-out normals, test, report."""

import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from anomap.commands.outcome import batches, conclude, print_outcome
from anomap.config import build
from anomap.data.build import build_datamodule
from anomap.data.checks import check_image_size
from anomap.data.datamodule import AnomalyDataModule
from anomap.detection.checkpoint import image_size
from anomap.detection.metrics import auroc
from anomap.detection.scoring import ScoringModel
from anomap.objectives.base import AdversarialObjective
from anomap.objectives.controls import CHEAP
from anomap.results import RunFolder
from anomap.training.method import train_method
from anomap.training.stages import CleanBatches

log = logging.getLogger(__name__)


def command(config: dict[str, Any], folder: Path) -> None:
    """Train and print the table."""
    print_outcome(train(config, folder), RunFolder(folder))


def train(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train, calibrate, test and report.

    Args:
        config: the whole configuration, plain containers only (`conf/train.yaml`, resolved).
        folder: the run's folder.

    Returns:
        What `metrics.json` holds.

    Raises:
        UserError: the data or the configuration is wrong; nothing has been trained then.
    """
    run = RunFolder(folder)
    pl.seed_everything(config["seed"], verbose=False)
    objective = build(config["model"]["objective"])
    check_image_size(image_size(config), objective.stride)
    augmentation = build(config["augmentation"])
    needed = isinstance(objective, AdversarialObjective) and objective.uses_augmentation
    data = build_datamodule(config["data"], augmentation if needed else None, config["seed"], objective.stride)
    data.setup()

    objective, stages = train_method(objective, data, config, run)
    detector = ScoringModel(objective, image_size(config))
    beside = control_aurocs(data, config) if config["controls"] else {}
    return conclude(detector, data, config, run, stages, beside)


def control_aurocs(data: AnomalyDataModule, config: dict[str, Any]) -> dict[str, float | None]:
    """Image AUROC of the controls that take seconds, on the same split: what knowing next to nothing achieves here."""
    found: dict[str, float | None] = {}
    for name, control in CHEAP.items():
        objective = control()
        objective.fit(CleanBatches(data))
        test = ScoringModel(objective, image_size(config)).score_all(batches(data.test_dataloader()))
        found[f"{name}_auroc"] = auroc(test.scores, test.labels)
    return found
