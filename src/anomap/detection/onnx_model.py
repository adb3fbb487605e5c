"""An exported detector in an ONNX file, run by ONNX Runtime; needs no torch."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anomap.data.tiles import Tiling, stitched
from anomap.detection.drift import Reference
from anomap.detection.image_statistics import image_statistics
from anomap.detection.places import Places, compare
from anomap.errors import UserError

METADATA = "anomap"  # key of the file's metadata: JSON, see `export.metadata`
FORMAT = 1
INPUT, OUTPUTS = "images", ("score", "anomaly_map", "is_anomaly")
HIGHEST = "highest"  # of a graph that sees tiles: the highest parts of the score so far
LOOK = "look"  # and of one that looks several times at a photograph: which time it is, counted from 0

Decided = tuple[npt.NDArray[np.float64], npt.NDArray[np.float32], npt.NDArray[np.bool_]]
# uint8 (B, C, H, W), for tiles also `highest`, `look` -> what the file gives
Graph = Callable[..., list[npt.NDArray[Any]]]


def decide(graph: Graph, facts: Mapping[str, Any], places: Places | None, images: npt.NDArray[np.uint8]) -> Decided:
    """Scores (B,), maps (B, 1, H, W) and decisions (B,) of an exported graph on images uint8 (B, C, H, W).

    A graph that sees tiles is called with some at a time; the photograph's map is put together here, at its own size.
    Images are compared place by place here, too. `facts` are the file's metadata, `places` of them.
    """
    if (tiling := facts.get("tiling")) is None:
        score, anomaly_map, decision = graph(images)
    else:
        found = [_decide_one(graph, tiling, photograph) for photograph in images]
        score, anomaly_map, decision = (np.concatenate(column) for column in zip(*found, strict=True))
    anomaly_map = np.require(anomaly_map, np.float32, "W")
    if places is not None:
        pairs = zip(anomaly_map, images, strict=True)
        score = np.array([compare(one[0], photograph, places) for one, photograph in pairs], np.float32)  # in place
        decision = score > facts["threshold"]
    return score.astype(np.float64), anomaly_map, decision


def places_of(facts: Mapping[str, Any]) -> Places | None:
    """What a file knows of places, if it compares them."""
    return None if facts.get("places") is None else Places.from_dict(facts["places"])


def _decide_one(graph: Graph, tiling: Mapping[str, Any], photograph: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
    last = [np.full((1, tiling["parts"]), -np.inf, np.float32)]
    geometry = Tiling(tiling["tile"], tiling["overlap"], tuple(tiling.get("scales", ())))

    def maps_of(tiles: npt.NDArray[np.uint8], look: int) -> dict[str, npt.NDArray[np.float32]]:
        nonlocal last
        which = [np.array([look])] if len(geometry.shrinks) > 1 else []
        score, maps, decision, highest = graph(tiles, last[-1], *which)
        last = [score, decision, highest]
        return {"anomaly_map": maps}

    whole = stitched(maps_of, photograph, geometry)
    return [last[0], whole["anomaly_map"][None], last[1]]


class OnnxModel:
    """An open file: its session, and all that it says of itself."""

    def __init__(self, session: Any, metadata: dict[str, Any]) -> None:
        self._session = session
        self.metadata = metadata
        self.preprocessing: dict[str, Any] = metadata["preprocessing"]
        self._places = places_of(metadata)
        self.threshold = float(metadata["threshold"])
        self.pixel_threshold = float(metadata["pixel_threshold"])
        low, high = metadata["map_scale"]
        self.map_scale = (float(low), float(high))
        reference = metadata.get("reference")  # which files of older versions have not
        self.reference = None if reference is None else Reference.from_dict(reference)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "OnnxModel":
        """Open a file that `anomap-export` wrote; UserError if it is none, or onnxruntime is not installed."""
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file; anomap-export writes one")
        try:
            session = open_session(os.fspath(path))
        except ImportError as error:
            raise UserError(f'{path}: needs onnxruntime; pip install "anomap[onnx]"') from error
        except Exception as error:  # onnxruntime raises many kinds for a damaged file
            raise UserError(f"{path}: not a readable ONNX file (truncated, or another kind of file)") from error
        try:
            model = cls.of(session)
            if (found := model.metadata["format"]) == FORMAT:
                return model
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: an ONNX file, but not one that anomap-export wrote") from error
        raise UserError(f"{path}: ONNX format {found}, this anomap reads {FORMAT}; export it again")

    @classmethod
    def of(cls, session: Any) -> "OnnxModel":
        """Of an open session; KeyError, TypeError or ValueError if anomap did not write the file."""
        return cls(session, json.loads(session.get_modelmeta().custom_metadata_map[METADATA]))

    def decide(self, images: npt.NDArray[np.uint8]) -> Decided:
        """uint8 (B, C, H, W) of any height and width -> scores (B,), maps (B, 1, *size), decisions (B,)."""
        return decide(self._graph, self.metadata, self._places, images)

    def run(self, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
        """`decide` without the decisions, which are the caller's."""
        return self.decide(images)[:2]

    def observe(self, images: npt.NDArray[np.uint8]) -> tuple[Any, Any, npt.NDArray[np.float32]]:
        """`run`, and the `image_statistics` (B, 3) of the images."""
        return *self.run(images), image_statistics(images)

    def _graph(self, *given: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        named = zip((INPUT, HIGHEST, LOOK), given, strict=False)
        return self._session.run(None, dict(named))


def open_session(source: str | bytes) -> Any:
    """ONNX Runtime's session of a file's path or content, on the CPU; raises many kinds for a damaged file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    # idle threads spin by default: no gain on batches, and beside other work a fifth of the speed is lost
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    threads = os.environ.get("OMP_NUM_THREADS", "")  # which torch respects too
    if threads.isdecimal():
        options.intra_op_num_threads = int(threads)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
