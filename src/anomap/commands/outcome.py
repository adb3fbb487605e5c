"""The end of a run: calibrate, score the test set, and write everything people and programs read."""

import importlib.metadata
import platform
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from pytorch_lightning.loggers import TensorBoardLogger
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from anomap import __version__
from anomap.config import flat
from anomap.data.datamodule import AnomalyDataModule
from anomap.data.imageset import ImageSet, to_float
from anomap.detection import checkpoint
from anomap.detection.detector import Detector, Scores
from anomap.detection.metrics import auroc_interval, image_metrics
from anomap.objectives.base import Batch
from anomap.results import RunFolder, ScoreRow, write_metrics, write_scores
from anomap.training.fit import Fit
from anomap.viewing import figures
from anomap.viewing.report import GALLERY_LIMIT, write_report
from anomap.viewing.selection import gallery_indices, worst_false_alarms, worst_misses

_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "hydra-core", "numpy", "pillow")


def batches(loader: DataLoader[Any]) -> Iterator[Batch]:
    """Batches with `image` as float in [0, 1], as scoring wants them."""
    for batch in loader:
        yield {**batch, "image": to_float(batch["image"])}


def conclude(
    detector: Detector,
    data: AnomalyDataModule,
    config: dict[str, Any],
    run: RunFolder,
    stages: Sequence[Fit],
    beside: Mapping[str, Any],
) -> dict[str, Any]:
    """Calibrate, test, and write checkpoint, scores, figures, report, and last of all `metrics.json`.

    Args:
        detector: with trained weights.
        data: ready to serve.
        config: the whole configuration.
        run: where to write.
        stages: the fits that were made, in order.
        beside: more for `metrics.json`: what the controls reach.

    Returns:
        The metrics.
    """
    detector.calibrate(batches(data.calibration_dataloader()))
    began = time.perf_counter()
    test = detector.score_all(batches(data.test_dataloader()))
    score_seconds = time.perf_counter() - began
    threshold = detector.set_threshold(config["threshold"], test)
    section = checkpoint.section(detector, config)
    # beside the state of the training, if there was one: the same file resumes and detects
    training = checkpoint.read(run.last_checkpoint) if run.last_checkpoint.is_file() else {}
    checkpoint.save(run.last_checkpoint, {**training, checkpoint.SECTION: section})

    metrics = {
        **image_metrics(test.scores, test.labels, threshold.value),
        **test.pixel,
        **data.counts(),
        **beside,
        "threshold": threshold.value,
        "threshold_strategy": threshold.strategy,
        "threshold_note": threshold.note or None,
        "calibration_fpr": threshold.calibration_fpr,
        "train_seconds": sum(stage.seconds for stage in stages),
        "train_images_per_second": _rate(sum(stage.images for stage in stages), sum(stage.seconds for stage in stages)),
        "score_images_per_second": _rate(len(test.scores), score_seconds),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "seed": config["seed"],
        "model": config["model"]["name"],
        "data": config["data"]["name"],
        "augmentation": config["augmentation"]["name"],
        "image_size": "x".join(str(side) for side in detector.image_size),
        "epochs": config["trainer"]["max_epochs"] if stages else 0,
        "checkpoint": str(run.last_checkpoint),
    }
    interval = auroc_interval(test.scores, test.labels)
    if interval is not None:
        metrics |= {"image_auroc_low": interval.low, "image_auroc_high": interval.high}
    rows = [
        ScoreRow.decide(sample.name, sample.label, sample.defect, float(score), threshold.value)
        for sample, score in zip(data.test.samples, test.scores, strict=True)
    ]
    write_scores(run.scores, rows)
    _write_pictures(detector, data.test, test, rows, metrics, config, run)
    _log_hyperparameters(stages, config, metrics)
    write_metrics(run.metrics, metrics)
    return metrics


def _rate(count: int, seconds: float) -> float | None:
    return count / seconds if seconds > 0 else None


class _Maps:
    """Anomaly maps of chosen test images, computed in one batch and kept."""

    def __init__(self, detector: Detector, images: ImageSet, chosen: Sequence[int]) -> None:
        with torch.inference_mode():
            maps = [
                detector.score(to_float(torch.from_numpy(images.images[np.asarray(part)])))[1]
                .anomaly_map.float()
                .numpy()
                for part in np.array_split(np.asarray(chosen), -(-len(chosen) // 32))
            ]
        self._maps = dict(zip(chosen, np.concatenate(maps), strict=True))

    def __call__(self, index: int) -> np.ndarray:
        """(1, H, W)."""
        return self._maps[index]


def _write_pictures(
    detector: Detector,
    images: ImageSet,
    test: Scores,
    rows: Sequence[ScoreRow],
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
    run: RunFolder,
) -> None:
    """Everything in `figures/`, and `report.html`."""
    threshold, scale = detector.threshold, detector.map_scale
    shown = _some_of_each(images, 4)
    mistakes = [*worst_misses(rows, 6), *worst_false_alarms(rows, 6)]
    maps = _Maps(detector, images, sorted({*gallery_indices(rows, GALLERY_LIMIT), *shown, *mistakes}))
    masks = images.masks
    drawn: dict[str, Figure] = {
        "score_distribution": figures.score_distribution(test.scores, test.labels, threshold),
        "roc": figures.roc_curve(test.scores, test.labels, threshold),
        "precision_recall": figures.precision_recall_curve(test.scores, test.labels, threshold),
        "attention_maps": figures.attention_map_grid(
            [images.images[i] for i in shown],
            [maps(i) for i in shown],
            scale,
            names=[rows[i].path for i in shown],
            labels=[int(images.labels[i]) for i in shown],
            scores=[rows[i].score for i in shown],
            masks=None if masks is None else [masks[i] for i in shown],
            threshold=detector.pixel_threshold,
        ),
        "worst_mistakes": figures.worst_mistakes(
            [rows[i] for i in mistakes],
            [images.images[i] for i in mistakes],
            [maps(i) for i in mistakes],
            scale,
        ),
    }
    run.figures.mkdir(parents=True, exist_ok=True)
    for name, figure in drawn.items():
        figures.save_figure(figure, run.figures / f"{name}.png")
    write_report(
        run.report,
        title=f"{config['model']['name']} on {config['data']['name']}",
        metrics=metrics,
        rows=rows,
        images=lambda i: images.images[i],
        maps=maps,
        masks=None if masks is None else lambda i: masks[i],
        scale=scale,
        pixel_threshold=detector.pixel_threshold,
        config=config,
        versions=versions(),
    )


def _some_of_each(images: ImageSet, count: int) -> list[int]:
    """`count` images of each kind (defect type), spread over the set; at most 12."""
    kinds: dict[str, list[int]] = {}
    for index, sample in enumerate(images.samples):
        kinds.setdefault(sample.defect, []).append(index)
    each = max(1, min(count, 12 // len(kinds)))
    spread = [[kind[len(kind) * i // each] for i in range(min(each, len(kind)))] for kind in kinds.values()]
    return sorted({index for kind in spread for index in kind})[:12]


def versions() -> dict[str, str]:
    """Of anomap, Python, and what decides the numbers."""
    packages = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"anomap": __version__, "python": platform.python_version(), **packages}


def _log_hyperparameters(stages: Sequence[Fit], config: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    """The configuration with the final metrics, for TensorBoard's HParams tab."""
    numbers = {
        f"hp/{name}": value
        for name, value in metrics.items()
        if isinstance(value, float) and name.startswith(("image_", "test_"))
    }
    for stage in stages[-1:]:
        for logger in stage.trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams({key: str(value) for key, value in flat(config).items()}, numbers)
                logger.finalize("success")


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
    if metrics.get("threshold_note"):
        console.print(f"note: {metrics['threshold_note']}")
    console.print(f"report       {run.report}\ncheckpoint   {run.last_checkpoint}")
    if run.tensorboard.is_dir():
        console.print(f"watch        tensorboard --logdir {run.tensorboard}")
