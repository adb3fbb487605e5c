"""What users load: a trained detector, from a checkpoint or an exported ONNX file. Needs no Lightning.

>>> from anomap import Detector
>>> detector = Detector.load("last.ckpt")
>>> prediction = detector.predict("part.png")
>>> prediction.is_anomaly == (prediction.score > detector.threshold)
True
>>> prediction.anomaly_map.shape == detector.preprocessing.size
True
>>> len(detector.predict(["part.png", "part.png"]))
2
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from anomap.data.images import MAX_PIXELS, convert, load_image
from anomap.errors import UserError

Images = npt.NDArray[np.uint8]
Run = Callable[[Images], tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]]

BATCH = 32


@dataclass(frozen=True)
class Preprocessing:
    """How files and arrays become what the model sees; the arguments of `anomap.data.images.load_image`."""

    channels: int  # 1 or 3
    size: tuple[int, int]  # (H, W), in pixels
    intensity_range: tuple[float, float] | None = None  # in the files' units; None: the range of the file's type
    max_pixels: int = MAX_PIXELS  # larger files are refused by their header

    def to_dict(self) -> dict[str, Any]:
        """Plain containers."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocessing":
        """The inverse of `to_dict`; other keys, as a run's `data` has them, are ignored."""
        (height, width), span = values["size"], values.get("intensity_range")
        span = None if span is None else (float(span[0]), float(span[1]))
        limit = int(values.get("max_pixels") or MAX_PIXELS)
        return cls(int(values["channels"]), (int(height), int(width)), span, limit)

    def read(self, path: str | os.PathLike[str]) -> Images:
        """One file -> uint8 (C, H, W). Raises UserError, which names the file."""
        return load_image(path, self.channels, self.size, self.intensity_range, self.max_pixels)

    def take(self, values: Any) -> Images:
        """An array or tensor as a file would hold it -> uint8 (C, H, W).

        It is (H, W), (H, W, 1 or 3) or (1 or 3, H, W), of uint8 or uint16, or any type of number if `intensity_range` is
        set. Three channels are red, green, blue. Raises UserError for anything else, and for values that are not finite.
        """
        array = _array(values)
        if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
            array = array.transpose(1, 2, 0)
        if array.ndim == 3 and array.shape[2] == 1:
            array = array[:, :, 0]
        if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or 0 in array.shape:
            raise UserError(
                f"an image of shape {array.shape}: give (H, W), (H, W, 3) or (3, H, W), and many of equal size as "
                "(B, 1 or 3, H, W) or a list"
            )
        span = self.intensity_range
        if span is None:
            if array.dtype not in (np.uint8, np.uint16):
                raise UserError(
                    f"an image of type {array.dtype} has no natural range: give uint8 or uint16 as a file holds them, or "
                    "train with data.intensity_range=[low,high]"
                )
            span = (0.0, float(np.iinfo(array.dtype).max))
        if array.dtype.kind not in "biuf":
            raise UserError(f"an image of type {array.dtype}: give numbers")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError("an image holds values that are not finite (NaN or infinity): mend them or leave it out")
        return convert(array, self.channels, self.size, span)


@dataclass(frozen=True)
class Prediction:
    """What a detector says of one image."""

    score: float  # raw, higher = more abnormal
    is_anomaly: bool  # score > threshold
    anomaly_map: npt.NDArray[np.float32]  # (H, W) at the detector's size, higher = more abnormal
    threshold: float


@dataclass(eq=False)
class Detector:
    """A trained detector; make one with `Detector.load`."""

    run: Run  # `score_batch`, without its checks
    preprocessing: Preprocessing
    threshold: float  # an image is abnormal iff its score is above it; may be set
    pixel_threshold: float  # a pixel is abnormal iff its map value is above it
    map_scale: tuple[float, float]  # one range for the colours of all maps

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str = "cpu") -> "Detector":
        """Load a run's `checkpoints/last.ckpt`, to compute on a torch `device`; or an exported `.onnx`, for the cpu.

        Raises:
            UserError: no such file or device, damaged, another kind or version; one line that says which.
        """
        if Path(path).suffix == ".onnx":
            if device != "cpu":
                raise UserError(
                    f"device={device}: leave it out, since an exported .onnx runs on the cpu; or load the checkpoint"
                )
            from anomap.detection.onnx_model import OnnxModel

            model = OnnxModel.load(path)
            preprocessing = Preprocessing.from_dict(model.preprocessing)
        else:
            from anomap.detection.checkpoint import load_model  # and with it torch

            model, config = load_model(path, device)
            preprocessing = Preprocessing.from_dict({**config["data"], "size": model.image_size})
        return cls(model.run, preprocessing, model.threshold, model.pixel_threshold, model.map_scale)

    def score_batch(self, images: Images) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]:
        """Scores (B,) and maps (B, H, W) of images uint8 (B, C, H, W) that `preprocessing` made; UserError for others."""
        expected = (self.preprocessing.channels, *self.preprocessing.size)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
            raise UserError(
                f"images {images.dtype} {images.shape}: score_batch takes uint8 (B, {', '.join(map(str, expected))}); "
                "score and predict take images of any size"
            )
        scores, maps = self.run(np.require(images, requirements=["C", "W"]))  # torch warns of what it cannot write to
        return scores, maps.reshape(len(images), *self.preprocessing.size)

    def score(self, images: Any) -> npt.NDArray[np.float64]:
        """Anomaly scores (N,) of paths, arrays or tensors: what `predict` takes."""
        parts = [scores for scores, _ in self._batches(_listed(images)[0])]
        return np.concatenate(parts) if parts else np.zeros(0)

    @overload
    def predict(self, images: str | os.PathLike[str]) -> Prediction: ...
    @overload
    def predict(self, images: list[Any] | tuple[Any, ...]) -> list[Prediction]: ...
    @overload
    def predict(self, images: Any) -> Any: ...
    def predict(self, images: Any) -> Any:
        """Score and decide. The maps of all images are in memory at once: `anomap-predict` is for more than that.

        Args:
            images: a path, or an array or tensor (see `Preprocessing.take`), which gives one `Prediction`; or a list of
                those, or a batch (B, C, H, W) or (B, H, W, C), which gives a list.

        Raises:
            UserError: a file that cannot be read, or an array of a wrong shape or type.
        """
        listed, single = _listed(images)
        predictions = [
            Prediction(float(score), bool(score > self.threshold), plane, self.threshold)
            for scores, maps in self._batches(listed)
            for score, plane in zip(scores, maps, strict=True)
        ]
        return predictions[0] if single else predictions

    def _batches(self, images: Sequence[Any]) -> Iterator[tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]]:
        read, take = self.preprocessing.read, self.preprocessing.take
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            pixels = [read(image) if isinstance(image, str | os.PathLike) else take(image) for image in part]
            yield self.score_batch(np.stack(pixels))


def _listed(images: Any) -> tuple[Sequence[Any], bool]:
    """The images as a list, and whether it was a single one."""
    dimensions = getattr(images, "ndim", None)
    if isinstance(images, str | os.PathLike | Image.Image) or dimensions not in (None, 4):
        return [images], True
    if dimensions == 4:
        return images, False
    if not isinstance(images, Iterable):
        raise UserError(f"images of type {type(images).__name__}: give a path, an array, a tensor, or a list of those")
    return list(images), False


def _array(values: Any) -> npt.NDArray[Any]:
    """An array in this machine's byte order; UserError for anything else."""
    if isinstance(values, Image.Image):  # as an array, one with a palette would hold indices of colours
        raise UserError("a Pillow image: give its file, or numpy.asarray(image) of one in mode L or RGB")
    try:
        array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    except (TypeError, ValueError) as error:
        raise UserError(f"an image of type {type(values).__name__}: not an array ({error})") from error
    return array.astype(array.dtype.newbyteorder("="), copy=False)
