"""Training a method from the whole configuration, with a stage 1 if it has one: what a run and a trial have in common."""

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl

from anomap.data.datamodule import AnomalyDataModule
from anomap.objectives.base import AdversarialObjective, Objective
from anomap.runs.folder import RunFolder
from anomap.training.fit import Fit, fit
from anomap.training.stages import CleanBatches, prepare_stage1


def train_method(
    objective: Objective,
    data: AnomalyDataModule,
    config: dict[str, Any],
    run: RunFolder,
    callbacks: Sequence[pl.Callback] = (),
) -> tuple[Objective, list[Fit]]:
    """Stage 1, closed-form statistics, then the adversarial training, as far as the method has them.

    Args:
        objective: the method, untrained.
        data: ready to serve.
        config: the whole configuration.
        run: where checkpoints and logs go.
        callbacks: further ones, of the last stage's training.

    Returns:
        The method with the weights that score, and the fits that were made, in order.
    """
    stages: list[Fit] = []
    if "stage1" in config["model"]:
        stages += prepare_stage1(objective, data, config, run)
    objective.fit(CleanBatches(data))
    if isinstance(objective, AdversarialObjective):
        groups = (config["model"], config["trainer"], config["logger"])
        stages.append(fit(objective, data, *groups, run, config, callbacks))
        objective = stages[-1].objective
    return objective, stages
