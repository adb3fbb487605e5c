"""The end of a training: calibrate, test, and write what people and programs read; an evaluation shares the last part."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger

from anomap.config import build
from anomap.data.datamodule import AnomalyDataModule
from anomap.detection import checkpoint
from anomap.detection.metrics import threshold_grid, threshold_table
from anomap.detection.scoring import ScoringModel
from anomap.evaluation.measure import batches, measure, rate, score_test
from anomap.evaluation.optional import optional
from anomap.evaluation.pictures import remove_pictures, worth_showing, write_pictures
from anomap.evaluation.scored_set import ScoredSet, device_of, take_pictures
from anomap.runs.folder import RunFolder, write_metrics
from anomap.runs.scores import write_scores, write_thresholds
from anomap.training.hyperparameters import log_hyperparameters
from anomap.training.train import Stage


def conclude(
    detector: ScoringModel,
    data: AnomalyDataModule,
    config: dict[str, Any],
    run: RunFolder,
    stages: Sequence[Stage],
    controls: Callable[[], Mapping[str, Any]],
) -> dict[str, Any]:
    """End a training: calibrate, test, and write checkpoint, scores, figures, report, and last of all `metrics.json`.

    The detector is saved before anything that it does not need is tried. Controls, figures and report may fail, each with a line.

    Args:
        detector: with trained weights.
        data: ready to serve.
        config: the whole configuration.
        run: where to write.
        stages: the trainings that were made, in order.
        controls: gives more for `metrics.json`: what the controls reach.

    Returns:
        The metrics.
    """
    detector.calibrate(batches(data.calibration_dataloader(), device_of(detector)), trained_on=len(data.train))
    scored = score_test(detector, data, pictures=False)
    threshold = detector.set_threshold(config["threshold"], scored.test)
    length = {"epochs": stages[-1].epochs, "steps": stages[-1].steps} if stages else {"epochs": 0, "steps": 0}
    trained = {"n_train": len(data.train), **length}
    section = {**checkpoint.section(detector, config), "trained": trained}
    # beside the state of the training, if there was one: the same file resumes and detects
    training = checkpoint.read(run.last_checkpoint) if run.last_checkpoint.is_file() else {}
    checkpoint.save(run.last_checkpoint, {**training, checkpoint.SECTION: section})

    seconds, images = sum(stage.seconds for stage in stages), sum(stage.images for stage in stages)
    rates = {"train_seconds": seconds, "train_images_per_second": rate(images, seconds)}
    metrics = measure(detector, scored, threshold, config, run.last_checkpoint, {**trained, **rates, **controls()})
    write_files(detector, scored, metrics, config, run, pictures=False)
    if config["figures"]:
        with optional("figures and report"):
            shown = take_pictures(detector, data.test, worth_showing(scored))
            write_files(detector, dataclasses.replace(scored, pictures=shown), metrics, config, run)
    _log_hyperparameters(stages, config, metrics, run)
    write_metrics(run.metrics, metrics)
    return metrics


def write_files(
    detector: ScoringModel,
    scored: ScoredSet,
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
    run: RunFolder,
    pictures: bool = True,
) -> None:
    """Write `scores.csv`, `thresholds.csv`, and with `pictures` the figures and the report.

    With `pictures=False`, figures and report of an earlier run are deleted: they show another result.
    """
    threshold, test = metrics["threshold"], scored.test
    table = threshold_table(test.scores, test.labels, threshold_grid(test.scores, threshold))
    write_scores(run.scores, scored.rows(threshold))
    write_thresholds(run.thresholds, table)
    if pictures:
        write_pictures(detector, scored, list(scored.rows(threshold)), table, metrics, config, run)
    else:
        remove_pictures(run)


def _log_hyperparameters(
    stages: Sequence[Stage], config: Mapping[str, Any], metrics: Mapping[str, Any], run: RunFolder
) -> None:
    """The run's row in TensorBoard's HParams tab; a control, which is not trained, has one too, to be compared with."""
    loggers = stages[-1].trainer.loggers if stages else []
    if not stages and config["logger"]:
        loggers = [build({**config["logger"], "save_dir": str(run.tensorboard)})]
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            log_hyperparameters(logger, config, metrics)
