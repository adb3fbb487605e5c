"""A detector as one file that runs without anomap's code: ONNX, or torch's exported program; and the proof that it is one.

The graph is `ScoringModel.forward` and the decision:

    images uint8 (B, C, H, W) -> score (B,), anomaly_map (B, 1, *image_size), is_anomaly (B,) bool

B, H and W are free; the graph resizes as `forward` does and holds the threshold as a constant.
"""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from anomap import __version__
from anomap.detection.detector import Images, Preprocessing
from anomap.detection.onnx_model import FORMAT, INPUT, METADATA, OUTPUTS, open_session
from anomap.detection.scoring import ScoringModel
from anomap.errors import UserError

OPSET = 18  # the first with an antialiased Resize
ONNX_LIMIT = 2_000_000_000  # bytes: protobuf's, of one file

Decided = tuple[npt.NDArray[np.float64], npt.NDArray[np.float32], npt.NDArray[np.bool_]]
Run = Callable[[Images], Decided]


class Decider(nn.Module):
    """What is exported: scores, maps, and the decision at a fixed threshold."""

    def __init__(self, model: ScoringModel) -> None:
        super().__init__()
        self.model = model
        self.threshold = model.threshold
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 (B, C, H, W) -> score (B,), anomaly map (B, 1, *image_size), decision (B,)."""
        score, anomaly_map = self.model(images)
        return score, anomaly_map, score.double() > self.threshold  # as `Detector` decides, to the last digit


def preprocessing_of(model: ScoringModel, config: Mapping[str, Any]) -> Preprocessing:
    """How the images of a run were read."""
    return Preprocessing.from_dict({**config["data"], "size": model.image_size})


def metadata(model: ScoringModel, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says of itself, in plain containers; `OnnxModel` reads it.

    Args:
        model: the detector.
        config: of the run that made it.
    """
    return {
        "format": FORMAT,
        "version": __version__,
        "model": config["model"]["name"],
        "preprocessing": preprocessing_of(model, config).to_dict(),
        "threshold": model.threshold,
        "pixel_threshold": model.pixel_threshold,
        "map_scale": list(model.map_scale),
        "calibration": {"n_images": len(model.calibration.scores), **config.get("threshold", {})},
    }


def trace(model: ScoringModel, channels: int) -> torch.export.ExportedProgram:
    """The graph, for any number of images of any size."""
    free = torch.export.Dim.DYNAMIC
    height, width = model.image_size
    # unequal to the detector's size and to each other, so that nothing is taken for a constant
    example = torch.zeros(2, channels, height + 2, width + 3, dtype=torch.uint8)
    with torch.no_grad(), _quiet():
        return torch.export.export(
            Decider(model.requires_grad_(False)), (example,), dynamic_shapes={INPUT: {0: free, 2: free, 3: free}}
        )


def to_onnx(program: torch.export.ExportedProgram, facts: Mapping[str, Any]) -> bytes:
    """A whole ONNX file, weights inside; `facts` goes to its metadata.

    Raises:
        UserError: the weights are more than one ONNX file can hold.
    """
    held = (*program.state_dict.values(), *program.constants.values())
    size = sum(value.nbytes for value in held if isinstance(value, Tensor))
    if size > ONNX_LIMIT:
        raise UserError(f"format=onnx: {size / 1e9:.1f} GB of weights, one file holds 2; give format=exported_program")
    with _quiet():
        exported = torch.onnx.export(
            program,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamo=True,
            verbose=False,
        )
    assert exported is not None
    for node in exported.model.graph.all_nodes():
        node.metadata_props.clear()  # stack traces, with paths of this machine
    exported.model.metadata_props[METADATA] = json.dumps(facts)
    return exported.model_proto.SerializeToString()


def to_exported_program(program: torch.export.ExportedProgram, facts: Mapping[str, Any]) -> bytes:
    """A whole .pt2 file; `torch.export.load(path, extra_files={METADATA: ""})` reads it, and `facts` as JSON."""
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(program, buffer, extra_files={METADATA: json.dumps(facts)})
    return buffer.getvalue()


def run_onnx(content: bytes) -> Run:
    """What ONNX Runtime makes of a file's content."""
    session = open_session(content)

    def run(images: Images) -> Decided:
        score, anomaly_map, decision = session.run(OUTPUTS, {INPUT: images})
        return score.astype(np.float64), anomaly_map, decision

    return run


def run_exported_program(content: bytes) -> Run:
    """What torch makes of a .pt2 file's content."""
    module = torch.export.load(io.BytesIO(content)).module()

    @torch.inference_mode()
    def run(images: Images) -> Decided:
        score, anomaly_map, decision = module(torch.from_numpy(images))
        return score.double().numpy(), anomaly_map.numpy(), decision.numpy()

    return run


@dataclass(frozen=True)
class Parity:
    """How far a file's scores and maps are from the detector's.

    A difference counts against what matters in it: scores against the standard deviation of the calibration normals'
    scores, maps against the range of their colours, `map_scale`. Where these are so small that rounding in single
    precision is a part of them, one percent of the largest value counts instead.

    Attributes:
        score: the largest absolute difference of a score.
        anomaly_map: the largest absolute difference of a map's pixel.
        score_unit: what the first counts against.
        map_unit: what the second counts against.
        decided: every decision is that of the file's own score.
    """

    score: float
    anomaly_map: float
    score_unit: float
    map_unit: float
    decided: bool

    def within(self, tolerance: float) -> bool:
        """Whether both differences are at most this share of their units; never if one is not a number."""
        return (
            self.decided and self.score <= tolerance * self.score_unit and self.anomaly_map <= tolerance * self.map_unit
        )


def probes(images: Images) -> list[Images]:
    """What a file is tried on: images (N, C, H, W) at the detector's size one, three, and all at a time; and at another size.

    One image is a shape that tracing likes to treat apart.
    """
    many = np.resize(images, (max(3, len(images)), *images.shape[1:]))  # repeats them if there are fewer
    return [many[:1], many[:3], many, np.ascontiguousarray(many.repeat(2, axis=3)[..., 1:])]


def parity(model: ScoringModel, run: Run, batches: Iterable[Images]) -> Parity:
    """Compare a file with the detector that it was made of, on uint8 images (B, C, H, W)."""
    scores, maps, largest_score, largest_map, decided = [], [], [], [], True
    for images in batches:
        score, anomaly_map = model.run(images)
        found_score, found_map, decision = run(images)
        decided = decided and np.array_equal(decision, found_score > model.threshold)
        scores.append(_apart(found_score, score))
        maps.append(_apart(found_map, anomaly_map))
        largest_score.append(np.abs(score).max())
        largest_map.append(np.abs(anomaly_map).max())
    low, high = model.map_scale
    return Parity(
        *(float(np.max(scores)), float(np.max(maps))),
        score_unit=float(np.max([_deviation(model.calibration.scores), 0.01 * np.max(largest_score)])),
        map_unit=float(np.max([high - low, 0.01 * np.max(largest_map)])),
        decided=decided,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' warnings and hundreds of lines about their own internals."""
    loggers = [logging.getLogger(name) for name in ("onnx_ir", "onnxscript", "torch.onnx", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _apart(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """The largest absolute difference; infinite if the shapes differ."""
    return float(np.abs(found - expected).max()) if found.shape == expected.shape else np.inf


def _deviation(scores: Tensor) -> float:
    return float(scores.double().std(correction=0)) if len(scores) else 0.0
