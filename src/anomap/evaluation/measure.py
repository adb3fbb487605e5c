"""What a test set says of a detector: scores, and the numbers of `metrics.json`."""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from anomap.data.anomaly_data import AnomalyData
from anomap.detection.calibration import Threshold
from anomap.detection.metrics import auroc_interval, image_metrics
from anomap.detection.operations import flops
from anomap.detection.scoring import ScoringModel
from anomap.evaluation.chosen import with_pictures
from anomap.evaluation.promise import promise_kept
from anomap.evaluation.scored_set import ScoredSet
from anomap.intervals import rate_interval
from anomap.memory import peak_rss
from anomap.objectives.base import Batch, device_of
from anomap.training.said import said

log = logging.getLogger(__name__)


def batches(loader: DataLoader[Any], detector: ScoringModel) -> Iterator[Batch]:
    """Batches with `image` as the detector takes it; the rest stays where it is."""
    for batch in loader:
        yield {**batch, "image": detector.ready(batch["image"])}


def score_test(detector: ScoringModel, data: AnomalyData, pictures: bool = True) -> ScoredSet:
    """Score the test set; with `pictures`, also keep what figures and report may show of it."""
    began = time.perf_counter()
    with said(f"scoring {len(data.test)} test images") if len(data.test) else nullcontext():
        masks = None if data.test.masks is None else data.test.mask_of
        given = batches(data.test_dataloader(), detector)
        test = detector.score_all(given, masks)
    seconds = time.perf_counter() - began - test.pixel_seconds  # they need several times those of a small network
    names = [sample.name for sample in data.test.samples]
    defects = [sample.defect for sample in data.test.samples]
    operations = _operations(detector, data.channels)
    if data.tiling is not None and len(data.test):  # of all its tiles
        operations *= sum(map(data.tiling.count, data.test.shapes.tolist())) // len(data.test)
    interval, note = auroc_interval(test.scores, test.labels), data.test.masks.note if data.test.masks else ""
    scored = ScoredSet(test, names, defects, seconds, operations, interval, pixel_note=note)
    return with_pictures(scored, detector, data.test) if pictures else scored


def measure(
    detector: ScoringModel,
    scored: ScoredSet,
    threshold: Threshold,
    config: Mapping[str, Any],
    path: Path,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """What `metrics.json` will hold of a calibrated detector, whose checkpoint is `path`; `more` is the caller's."""
    test, interval = scored.test, scored.interval
    metrics = {
        **image_metrics(test.scores, test.labels, threshold.value),
        **test.pixel,
        **test.parts,
        **more,
        "threshold": threshold.value,
        "threshold_strategy": threshold.strategy,
        "threshold_note": threshold.note or None,
        "promised_fpr": threshold.promised_fpr,
        "calibration_fpr": threshold.calibration_fpr,
        "n_calibration": len(detector.calibration.scores),
        "n_scaling": int(detector.calibration.scaling.sum()),
        "score_images_per_second": rate(len(test.scores), scored.seconds),
        "score_mflop_per_image": scored.operations / 1e6,
        "peak_rss_mb": peak_rss() / 2**20,
        "threads": torch.get_num_threads(),
        "seed": config["seed"],
        **{group: config[group]["name"] for group in ("model", "data", "augmentation")},
        "image_size": "x".join(str(side) for side in detector.image_size),
        "checkpoint": str(path),
    }
    if interval is not None:
        metrics |= {"image_auroc_low": interval.low, "image_auroc_high": interval.high}
    for name, kind in (("test_fpr", "normal"), ("test_tpr", "abnormal")):
        if count := metrics[f"n_test_{kind}"]:
            low, high = rate_interval(round(metrics[name] * count), count)
            metrics |= {f"{name}_low": low, f"{name}_high": high}
    if scored.pixel_note:
        metrics["pixel_note"] = scored.pixel_note
    metrics |= promise_kept(detector, scored, threshold)
    if metrics.get("promise_note"):
        log.warning("%s", metrics["promise_note"])
    missing = [kind for kind in ("normal", "abnormal") if metrics[f"n_test_{kind}"] == 0]
    if len(missing) == 2:
        metrics["test_note"] = "there is no test set: what needs one is null"
    elif missing:
        metrics["test_note"] = f"no {missing[0]} image in the test set: what needs both classes is null"
    return metrics


def _operations(detector: ScoringModel, channels: int) -> int:
    """Floating-point operations of scoring one image of its size."""
    image = torch.zeros(1, channels, *detector.image_size, device=device_of(detector))
    with torch.no_grad():  # inference mode, PyTorch's counter does not know
        return flops(lambda: detector.objective.score(image))


def rate(count: int, seconds: float) -> float | None:
    """Per second; None where nothing was done, or no time was taken."""
    return count / seconds if count and seconds > 0 else None
