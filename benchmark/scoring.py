"""Scoring: eager and exported, one image and many, small images and large, and what share of the machine's peak it reaches."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anomap.detection.operations import flops
from anomap.detection.scoring import ScoringModel
from anomap.errors import UserError
from anomap.evaluation.measure import batches
from anomap.training.clean import CleanBatches
from benchmark.plan import ADVERSARIAL, SIZES, Plan
from benchmark.roofline import GIGA, limit
from benchmark.setup import MANY_IMAGES, Setup, prepare
from benchmark.timing import Case, interleaved, latencies, percentile

Images = NDArray[np.uint8]
Score = Callable[[Images], object]

BATCH = 64
SIZED = ("ganomaly", "attention_network")  # whose cost against the size is measured
_WAYS = ("eager", "onnx")


def keys(plan: Plan) -> list[str]:
    """What `measure` says."""
    del plan
    each = []
    for method in ADVERSARIAL:
        for way in _WAYS:
            each += [f"score_{way}_images_per_second_{method}"]
            each += [f"score_{way}_{p}_ms_{method}" for p in ("p50", "p99")]
        each += [f"score_mflop_per_image_{method}", f"roofline_share_score_{method}"]
    return [*each, *(f"score_images_per_second_{method}_{side}px" for method in SIZED for side in SIZES)]


def measure(plan: Plan) -> dict[str, Any]:
    """Batches of 64 in images per second; one image at a time in milliseconds, median and 99th percentile."""
    found: dict[str, Any] = {}
    peak = limit()
    with tempfile.TemporaryDirectory(prefix="anomap-benchmark-") as temporary:
        for method in plan.methods:
            found |= _method(method, plan, Path(temporary), peak)
        for side in plan.sizes:
            found |= _size(side, plan, Path(temporary))
    return found


def _method(method: str, plan: Plan, folder: Path, peak: Case) -> dict[str, Any]:
    setup = prepare(2, folder, f"model={method}", seed=plan.seed, images=MANY_IMAGES)
    model = detector(setup)
    images = noise(BATCH, model, plan.seed)
    ways: dict[str, Score] = {"eager": model.run}
    found: dict[str, Any] = {}
    try:
        ways["onnx"] = exported(model, setup.config)
    except UserError as error:
        found["scoring_note"] = str(error)
    except Exception as error:  # an exporter may fail in many ways; the other numbers stand
        found["scoring_note"] = f"{method}: not exported ({type(error).__name__})"
    cases: dict[str, Case] = {name: many(score, images, plan.scored) for name, score in ways.items()}
    rates = interleaved({**cases, "peak": peak}, plan.rounds)
    with torch.inference_mode():
        per_image = flops(lambda: model.run(images)) / len(images)
    for way, score in ways.items():
        single = latencies(lambda score=score: score(images[:1]), plan.calls)
        found[f"score_{way}_images_per_second_{method}"] = rates.median(way)
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            found[f"score_{way}_{name}_ms_{method}"] = 1e3 * percentile(single, share)
    best = max(rates.ratio(way, to="peak") for way in ways)
    found[f"score_mflop_per_image_{method}"] = per_image / 1e6
    found[f"roofline_share_score_{method}"] = best * per_image / GIGA
    return found


def _size(side: int, plan: Plan, folder: Path) -> dict[str, float]:
    """Eager, both methods side by side."""
    cases: dict[str, Callable[[], float]] = {}
    for method in SIZED:
        model = detector(prepare(1, folder, f"model={method}", f"data.image_size={side}", "data.batch_size=16"))
        images = noise(16 if side > 128 else BATCH, model, plan.seed)
        cases[method] = many(model.run, images, len(images))
    rates = interleaved(cases, plan.rounds)
    return {f"score_images_per_second_{method}_{side}px": rates.median(method) for method in cases}


def detector(setup: Setup) -> ScoringModel:
    """The method of a setup as it would score after training, calibrated and with its threshold."""
    objective = setup.objective.eval()
    objective.learn_statistics(CleanBatches(setup.data))
    model = ScoringModel(objective, setup.data.image_size)
    model.calibrate(batches(setup.data.calibration_dataloader(), model))
    model.set_threshold(setup.config["threshold"])
    model.place("cpu")
    return model


def noise(count: int, model: ScoringModel, seed: int, channels: int = 1) -> Images:
    """uint8 images that a detector takes."""
    return np.random.default_rng(seed).integers(0, 255, (count, channels, *model.image_size), np.uint8, endpoint=True)


def many(score: Score, images: Images, at_least: int) -> Callable[[], float]:
    """Score the batch until so many images are scored."""
    times = -(-at_least // len(images))

    def run() -> float:
        for _ in range(times):
            score(images)
        return times * len(images)

    return run


def exported(model: ScoringModel, config: Mapping[str, Any], channels: int = 1) -> Score:
    """The detector as an ONNX graph, in ONNX Runtime.

    Raises:
        UserError: what the export needs is not installed.
    """
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise UserError('onnx is not installed: pip install "anomap[onnx]"') from None
    from anomap.detection.export import metadata, run_onnx, to_onnx, trace

    return run_onnx(to_onnx(trace(model, channels), metadata(model, config)))
