"""A detector as one file that runs without anomap's code: ONNX or torch's exported program; and the check of it."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from anomap import __version__
from anomap.data.tiles import Tiling
from anomap.detection.detector import Images, Preprocessing
from anomap.detection.onnx_model import (
    FORMAT,
    HIGHEST,
    INPUT,
    LOOK,
    METADATA,
    OUTPUTS,
    Decided,
    OnnxModel,
    decide,
    open_session,
    places_of,
)
from anomap.detection.scoring import ScoringModel
from anomap.errors import UserError

OPSET = 18  # the first with an antialiased Resize
TILED = 3  # photographs that a file is checked on, at most
ONNX_LIMIT = 2_000_000_000  # bytes: protobuf's, of one file

Run = Callable[[Images], Decided]


class Decider(nn.Module):
    """The graph that is exported; the threshold is a constant in it."""

    def __init__(self, model: ScoringModel) -> None:
        super().__init__()
        self.model, self.threshold = model, model.threshold
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 (B, C, H, W) -> score (B,), anomaly map (B, 1, *image_size), decision (B,) bool."""
        score, anomaly_map = self.model(images)
        return score, anomaly_map, score.double() > self.threshold  # as `Detector` decides, to the last digit


class TileDecider(Decider):
    """The graph of a detector that tiles: it sees a photograph's tiles some at a time, with the highest parts so far."""

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, images: Tensor, highest: Tensor, look: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """uint8 (T, C, tile, tile), (1, K), -inf at first -> score (1,), maps (T, 1, tile, tile), decision (1,), highest (1, K).

        `look`, of a detector that looks several times, is the number of this one, int64 (1,), counted from 0. After the
        last tiles, score and decision are the photograph's.
        """
        output = self.model.objective.score(images.float() / 255)
        top = output.columns(self.model.objective.part_names).amax(0, keepdim=True)
        if look is not None:  # the parts of other looks stay as they are
            looks = torch.arange(highest.shape[1] // top.shape[1], device=top.device)
            top = torch.where(looks[:, None] == look, top, -torch.inf).reshape(1, -1)
        highest = torch.maximum(highest, top)
        # of photographs that are compared place by place, the score is found in the whole map
        score = highest.amax(1) if self.model.places.known else self.model.standardiser(highest)
        return score, output.anomaly_map, score.double() > self.threshold, highest


def preprocessing_of(model: ScoringModel, config: Mapping[str, Any]) -> Preprocessing:
    """How the images of a run were read."""
    return Preprocessing.from_dict({**config["data"], "size": model.reads})


def metadata(model: ScoringModel, config: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says of itself, in plain containers; `config` is of the run that made the model."""
    return {
        "format": FORMAT,
        "version": __version__,
        "model": config["model"]["name"],
        "preprocessing": preprocessing_of(model, config).to_dict(),
        "tiling": None if model.tiling is None else {**asdict(model.tiling), "parts": _parts(model, model.tiling)},
        "places": model.places.kept.to_dict() if model.places.known else None,
        "threshold": model.threshold,
        "pixel_threshold": model.pixel_threshold,
        "map_scale": list(model.map_scale),
        "reference": None if model.reference is None else model.reference.to_dict(),
        "calibration": {
            "n_images": len(model.calibration.scores),
            **config.get("threshold", {}),
            **config.get("calibration", {}),
        },
    }


def inputs(tiling: Tiling | None) -> list[str]:
    """The names of what a graph takes, in order."""
    return [INPUT] if tiling is None else [INPUT, HIGHEST, *([LOOK] if len(tiling.shrinks) > 1 else [])]


def _parts(model: ScoringModel, tiling: Tiling) -> int:
    """How many values a graph that sees tiles keeps of them: the parts of each look."""
    return len(tiling.named(model.objective.part_names))


def trace(model: ScoringModel, channels: int) -> torch.export.ExportedProgram:
    """The graph, for any number of images of any size; of a detector that tiles, for any number of tiles."""
    free = torch.export.Dim.DYNAMIC
    height, width = model.image_size
    if model.tiling is not None:
        tiles = torch.zeros(2, channels, height, width, dtype=torch.uint8)
        highest = torch.full((1, _parts(model, model.tiling)), -torch.inf)
        given = {INPUT: tiles, HIGHEST: highest, LOOK: torch.zeros(1, dtype=torch.int64)}
        taken = {name: given[name] for name in inputs(model.tiling)}
        sizes: dict[str, Any] = {name: {0: free} if name == INPUT else None for name in taken}
        with torch.no_grad(), _quiet():
            decider = TileDecider(model.requires_grad_(False))
            return torch.export.export(decider, (*taken.values(),), dynamic_shapes=sizes)
    # unequal to the model's size and to each other: nothing is taken for a constant
    example = torch.zeros(2, channels, height + 2, width + 3, dtype=torch.uint8)
    shapes = {INPUT: {0: free, 2: free, 3: free}}
    with torch.no_grad(), _quiet():
        return torch.export.export(Decider(model.requires_grad_(False)), (example,), dynamic_shapes=shapes)


def to_onnx(program: torch.export.ExportedProgram, facts: Mapping[str, Any]) -> bytes:
    """A whole ONNX file, with `facts` in its metadata. Raises UserError if it cannot hold so many weights."""
    held = (*program.state_dict.values(), *program.constants.values())
    size = sum(value.nbytes for value in held if isinstance(value, Tensor))
    if size > ONNX_LIMIT:
        raise UserError(f"format=onnx: {size / 1e9:.1f} GB of weights, one file holds 2; give format=exported_program")
    tiling = facts["tiling"] and Tiling(facts["tiling"]["tile"], scales=facts["tiling"]["scales"])
    outputs = [*OUTPUTS, *([f"next_{HIGHEST}"] if tiling else [])]
    options: dict[str, Any] = {"opset_version": OPSET, "input_names": inputs(tiling), "output_names": outputs}
    with _quiet():
        exported = torch.onnx.export(program, dynamo=True, verbose=False, **options)
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
    """A function that runs an ONNX file's content."""
    return OnnxModel.of(open_session(content)).decide


def run_exported_program(content: bytes) -> Run:
    """A function that runs a .pt2 file's content."""
    told = {METADATA: ""}
    module = torch.export.load(io.BytesIO(content), extra_files=told).module()

    @torch.inference_mode()
    def graph(*given: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        return [found.numpy() for found in module(*map(torch.from_numpy, given))]

    facts = json.loads(told[METADATA])
    return partial(decide, graph, facts, places_of(facts))


@dataclass(frozen=True)
class Parity:
    """How far a file's scores and maps are from the model's: the largest absolute differences.

    Each unit is at least one percent of the largest value, against rounding in single precision.
    """

    score: float
    anomaly_map: float
    score_unit: float  # the standard deviation of the calibration normals' scores
    map_unit: float  # the range of `map_scale`
    decided: bool  # every decision is that of the file's own score

    def within(self, tolerance: float) -> bool:
        """Whether the decisions are right, and both differences at most this share of their units (never if NaN)."""
        scores, maps = tolerance * self.score_unit, tolerance * self.map_unit
        return self.decided and self.score <= scores and self.anomaly_map <= maps


def probes(images: Images | list[Images]) -> list[Images]:
    """Batches to check a file on: one (which tracing may treat apart), three, and all images (N, C, H, W); another size.

    Of photographs that are tiled, which may differ in size, one after the other.
    """
    if isinstance(images, list):
        return [np.array(image[None]) for image in images[:TILED]]
    many = np.resize(images, (max(3, len(images)), *images.shape[1:]))  # repeats them if there are fewer
    return [many[:1], many[:3], many, np.ascontiguousarray(many.repeat(2, axis=3)[..., 1:])]


def parity(model: ScoringModel, run: Run, batches: Iterable[Images]) -> Parity:
    """Compare a file with the model that it was made of, on uint8 images (B, C, H, W)."""
    rows, decided = [], True
    for images in batches:
        expected = model.run(images)
        *found, decision = run(images)
        decided = decided and np.array_equal(decision, found[0] > model.threshold)
        rows.append([*map(_apart, found, expected), *(np.abs(values).max() for values in expected)])
    score_apart, map_apart, largest_score, largest_map = np.max(rows, axis=0).tolist()  # NaN if one is
    normal, (low, high) = model.calibration.scores.double(), model.map_scale
    spread = float(normal.std(correction=0)) if len(normal) else 0.0
    return Parity(
        score_apart, map_apart, max(0.01 * largest_score, spread), max(0.01 * largest_map, high - low), decided
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' warnings and log lines about their own internals."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _apart(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """The largest absolute difference; infinite if the shapes differ."""
    return float(np.abs(found - expected).max()) if found.shape == expected.shape else np.inf
