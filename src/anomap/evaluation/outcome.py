"""The end of a training or an evaluation: score the test set, decide, and write what people and programs read."""

import dataclasses
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from anomap.config import build
from anomap.data.datamodule import AnomalyDataModule
from anomap.data.imageset import to_float
from anomap.detection import checkpoint
from anomap.detection.calibration import Threshold
from anomap.detection.metrics import auroc_interval, image_metrics, threshold_grid, threshold_table
from anomap.detection.scoring import ScoringModel
from anomap.evaluation.optional import optional
from anomap.evaluation.pictures import remove_pictures, worth_showing, write_pictures
from anomap.evaluation.scored_set import ScoredSet, device_of, take_pictures
from anomap.objectives.base import Batch
from anomap.runs.folder import RunFolder, write_metrics, write_scores, write_thresholds
from anomap.training.hyperparameters import log_hyperparameters
from anomap.training.train import Stage


def batches(loader: DataLoader[Any], device: torch.device | str = "cpu") -> Iterator[Batch]:
    """Batches with `image` as float in [0, 1] on the device that scores; labels and masks stay where they are."""
    for batch in loader:
        yield {**batch, "image": to_float(batch["image"].to(device))}


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
    detector.calibrate(batches(data.calibration_dataloader(), device_of(detector)))
    scored = score_test(detector, data, pictures=False)
    threshold = detector.set_threshold(config["threshold"], scored.test)
    length = {"epochs": stages[-1].epochs, "steps": stages[-1].steps} if stages else {"epochs": 0, "steps": 0}
    trained = {"n_train": len(data.train), **length}
    section = {**checkpoint.section(detector, config), "trained": trained}
    # beside the state of the training, if there was one: the same file resumes and detects
    training = checkpoint.read(run.last_checkpoint) if run.last_checkpoint.is_file() else {}
    checkpoint.save(run.last_checkpoint, {**training, checkpoint.SECTION: section})

    seconds, images = sum(stage.seconds for stage in stages), sum(stage.images for stage in stages)
    rates = {"train_seconds": seconds, "train_images_per_second": _rate(images, seconds)}
    metrics = measure(detector, scored, threshold, config, run.last_checkpoint, {**trained, **rates, **controls()})
    write_files(detector, scored, metrics, config, run, pictures=False)
    if config["figures"]:
        with optional("figures and report"):
            shown = take_pictures(detector, data.test, worth_showing(scored))
            write_files(detector, dataclasses.replace(scored, pictures=shown), metrics, config, run)
    _log_hyperparameters(stages, config, metrics, run)
    write_metrics(run.metrics, metrics)
    return metrics


def score_test(detector: ScoringModel, data: AnomalyDataModule, pictures: bool = True) -> ScoredSet:
    """Score the test set, and unless `pictures` is false keep what may have to be shown of it."""
    began = time.perf_counter()
    test = detector.score_all(batches(data.test_dataloader(), device_of(detector)))
    seconds = time.perf_counter() - began
    names = [sample.name for sample in data.test.samples]
    defects = [sample.defect for sample in data.test.samples]
    scored = ScoredSet(test, names, defects, seconds, auroc_interval(test.scores, test.labels))
    if not pictures:
        return scored
    return dataclasses.replace(scored, pictures=take_pictures(detector, data.test, worth_showing(scored)))


def measure(
    detector: ScoringModel,
    scored: ScoredSet,
    threshold: Threshold,
    config: Mapping[str, Any],
    path: Path,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """What `metrics.json` will hold.

    Args:
        detector: calibrated.
        scored: the test set.
        threshold: of the decision.
        config: the whole configuration.
        path: the checkpoint.
        more: what only the caller knows.
    """
    test, interval = scored.test, scored.interval
    metrics = {
        **image_metrics(test.scores, test.labels, threshold.value),
        **test.pixel,
        **test.parts,
        **more,
        "threshold": threshold.value,
        "threshold_strategy": threshold.strategy,
        "threshold_note": threshold.note or None,
        "calibration_fpr": threshold.calibration_fpr,
        "n_calibration": len(detector.calibration.scores),
        "score_images_per_second": _rate(len(test.scores), scored.seconds),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "threads": torch.get_num_threads(),
        "seed": config["seed"],
        "model": config["model"]["name"],
        "data": config["data"]["name"],
        "augmentation": config["augmentation"]["name"],
        "image_size": "x".join(str(side) for side in detector.image_size),
        "checkpoint": str(path),
    }
    if interval is not None:
        metrics |= {"image_auroc_low": interval.low, "image_auroc_high": interval.high}
    for key, kind in (("n_test_normal", "normal"), ("n_test_abnormal", "abnormal")):
        if metrics[key] == 0:
            metrics["test_note"] = f"no {kind} image in the test set: what needs both classes is null"
    return metrics


def write_files(
    detector: ScoringModel,
    scored: ScoredSet,
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
    run: RunFolder,
    pictures: bool = True,
) -> None:
    """Write `scores.csv`, `thresholds.csv`, and unless `pictures` is false the figures and the report.

    Without them those that an earlier run left in the folder go, since they show another result.
    """
    threshold, test = metrics["threshold"], scored.test
    table = threshold_table(test.scores, test.labels, threshold_grid(test.scores, threshold))
    write_scores(run.scores, scored.rows(threshold))
    write_thresholds(run.thresholds, table)
    if pictures:
        write_pictures(detector, scored, list(scored.rows(threshold)), table, metrics, config, run)
    else:
        remove_pictures(run)


def _rate(count: int, seconds: float) -> float | None:
    return count / seconds if seconds > 0 else None


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


def print_outcome(metrics: Mapping[str, Any], run: RunFolder) -> None:
    """The table at the end, and where to look next."""
    table = Table(title=f"{metrics['model']} on {metrics['data']}, {metrics['image_size']} px", title_justify="left")
    table.add_column("measure")
    table.add_column("value", justify="right")
    names = {
        "image_auroc": "image AUROC",
        "image_ap": "image average precision",
        "image_f1": "image F1 at the threshold",
        "pixel_auroc": "pixel AUROC",
        "pixel_aupro": "pixel AUPRO",
        "threshold": f"threshold ({metrics['threshold_strategy']})",
        "calibration_fpr": "false-positive rate, calibration",
        "test_fpr": "false-positive rate, test",
        "test_tpr": "true-positive rate, test",
        "train_images_per_second": "training images/s",
        "score_images_per_second": "scoring images/s",
    }
    for key, name in names.items():
        if isinstance(metrics.get(key), float):
            table.add_row(name, f"{metrics[key]:.1f}" if key.endswith("second") else f"{metrics[key]:.4f}")
    for key, value in metrics.items():
        if key.startswith("control_") and isinstance(value, float):
            table.add_row(f"image AUROC of {key.removesuffix('_auroc')}", f"{value:.4f}")
    console = Console(file=sys.stdout, soft_wrap=True)
    console.print(table)
    for key in ("threshold_note", "test_note"):
        if metrics.get(key):
            console.print(f"note: {metrics[key]}")
    found = run.report if run.report.is_file() else run.path
    console.print(f"{'report' if found == run.report else 'results':<12} {found}\ncheckpoint   {metrics['checkpoint']}")
    if run.tensorboard.is_dir():
        console.print(f"watch        tensorboard --logdir {run.tensorboard}")
