"""An exported detector in an ONNX file, run by ONNX Runtime; needs no torch."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anomap.errors import UserError

METADATA = "anomap"  # key of the file's metadata: JSON, see `export.metadata`
FORMAT = 1
INPUT, OUTPUTS = "images", ("score", "anomaly_map", "is_anomaly")


class OnnxModel:
    """An open file: its session, and all that it says of itself."""

    def __init__(self, session: Any, metadata: dict[str, Any]) -> None:
        self._session = session
        self.metadata = metadata
        self.preprocessing: dict[str, Any] = metadata["preprocessing"]
        self.threshold = float(metadata["threshold"])
        self.pixel_threshold = float(metadata["pixel_threshold"])
        low, high = metadata["map_scale"]
        self.map_scale = (float(low), float(high))

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
            metadata = json.loads(session.get_modelmeta().custom_metadata_map[METADATA])
            if metadata["format"] == FORMAT:
                return cls(session, metadata)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: an ONNX file, but not one that anomap-export wrote") from error
        raise UserError(f"{path}: ONNX format {metadata['format']}, this anomap reads {FORMAT}; export it again")

    def run(self, images: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
        """uint8 (B, C, H, W) of any height and width -> scores (B,), maps (B, 1, *size)."""
        score, anomaly_map = self._session.run(OUTPUTS[:2], {INPUT: images})
        return score.astype(np.float64), anomaly_map.astype(np.float32, copy=False)


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
