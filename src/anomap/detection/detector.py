"""What users load: a trained detector, from a checkpoint or an exported ONNX file. Needs no Lightning.

>>> from anomap import Detector
>>> detector = Detector.load("last.ckpt")
>>> prediction = detector.predict("part.png")
>>> prediction.is_anomaly == (prediction.score > detector.threshold)
True
>>> prediction  # doctest: +SKIP
Prediction(abnormal, score=9.481, threshold=3.691, 50x40 px)
>>> prediction.anomaly_map.shape, prediction.overlay().shape  # at the photograph's own size; colours are RGB
((40, 50), (40, 50, 3))
>>> len(detector.predict(["part.png", "part.png"]))
2
>>> detector.drift().changed  # against the images that calibrated it
False
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from anomap.data.checks import check_bands
from anomap.data.images import BACKGROUNDS, MAX_PIXELS, Size, convert, load_sized, on_background
from anomap.data.reading import read_size
from anomap.detection.drift import ENOUGH, Drift, DriftMonitor, Reference
from anomap.detection.prediction import Map, Prediction
from anomap.errors import UserError

Images = npt.NDArray[np.uint8]
Scores = npt.NDArray[np.float64]
Table = npt.NDArray[np.float32]
Run = Callable[[Images], tuple[Scores, Map, Table]]
Look = Callable[[Images], tuple[Scores, Map, Table, Map | None]]

BATCH = 32
UNWATCHED = (
    "whether the world has changed cannot be watched: this detector is of an older anomap, which kept no statistics"
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preprocessing:
    """How files and arrays become what the model sees; the arguments of `anomap.data.images.load_image`."""

    channels: int  # 1 or 3
    size: Size  # (H, W), in pixels; or, for a detector that tiles, a factor of the photograph's own
    intensity_range: tuple[float, float] | None = None  # in the files' units; None: the range of the file's type
    max_pixels: int = MAX_PIXELS  # larger files are refused by their header
    bands: tuple[int, ...] | None = None  # one or three of many, counted from 0
    background: str = "black"  # behind transparent pixels

    def to_dict(self) -> dict[str, Any]:
        """Plain containers."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocessing":
        """The inverse of `to_dict`; other keys, as a run's `data` has them, are ignored."""
        size, span = values["size"], values.get("intensity_range")
        size = float(size) if isinstance(size, int | float) else (int(size[0]), int(size[1]))
        span = None if span is None else (float(span[0]), float(span[1]))
        limit = int(values.get("max_pixels") or MAX_PIXELS)
        bands, background = check_bands(values.get("bands")), str(values.get("background") or "black")
        return cls(int(values["channels"]), size, span, limit, bands, background)

    def read(self, path: str | os.PathLike[str]) -> Images:
        """One file -> uint8 (C, H, W). Raises UserError, which names the file."""
        return self.read_sized(path)[0]

    def read_sized(self, path: str | os.PathLike[str]) -> tuple[Images, tuple[int, int]]:
        """`read`, and the (H, W) of the file itself."""
        return load_sized(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    def take(self, values: Any, bgr: bool = False) -> Images:
        """An array or tensor as a file would hold it -> uint8 (C, H, W).

        It is (H, W), (H, W, 1 or 3) or (1 or 3, H, W), of uint8 or uint16, or any type of number if `intensity_range` is
        set. Three channels are RGB: red, green, blue; with `bgr` the other way round, as OpenCV has them; (H, W, 4) has alpha,
        too, and shows the `background` there. Where `bands` are set it is (H, W, all bands). Raises UserError for anything else,
        and for values that are not finite.
        """
        array, alpha = _upright(values, bgr, self.bands)
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
        if alpha is not None:
            array = on_background(array, alpha, span[BACKGROUNDS.index(self.background)])
        return convert(array, self.channels, self.size, span)

    def see(self, image: Any, bgr: bool = False) -> Images:
        """A path, array or tensor -> uint8 (C, H, W)."""
        return self.read(image) if isinstance(image, str | os.PathLike) else self.take(image, bgr)

    def see_sized(self, image: Any, bgr: bool = False) -> tuple[Images, tuple[int, int]]:
        """`see`, and the (H, W) of the image as it is, before it is resized."""
        if isinstance(image, str | os.PathLike):
            return self.read_sized(image)
        return self.take(image, bgr), self.size_of(image)

    def size_of(self, image: Any) -> tuple[int, int]:
        """(H, W) of a path, array or tensor as it is, before it is resized."""
        if isinstance(image, str | os.PathLike):
            return read_size(Path(image), self.max_pixels)
        height, width = _upright(image, bands=self.bands)[0].shape[:2]
        return height, width

    def photograph(self, image: Any, bgr: bool = False) -> Images:
        """A path, array or tensor -> uint8 (3, H, W), RGB, at its own size."""
        return replace(self, channels=3, size=self.size_of(image)).see(image, bgr)


@dataclass(eq=False)
class Detector:
    """A trained detector; make one with `Detector.load`."""

    run: Run  # scores, maps and `image_statistics` of what `score_batch` takes
    preprocessing: Preprocessing
    threshold: float  # an image is abnormal iff its score is above it; may be set
    pixel_threshold: float  # a pixel is abnormal iff its map value is above it
    map_scale: tuple[float, float]  # one range for the colours of all maps
    look: Look | None = None  # as `run`, with the attention maps too
    reference: Reference | None = None  # what calibration kept to compare new images with
    _monitor: DriftMonitor | None = field(default=None, init=False, repr=False)
    _looks: int = field(default=0, init=False, repr=False)

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

            model, look = OnnxModel.load(path), None
            preprocessing = Preprocessing.from_dict(model.preprocessing)
        else:
            from anomap.detection.checkpoint import load_model  # and with it torch

            model, config = load_model(path, device)
            preprocessing, look = Preprocessing.from_dict({**config["data"], "size": model.reads}), model.look
        limits = model.threshold, model.pixel_threshold, model.map_scale
        return cls(model.observe, preprocessing, *limits, look, model.reference)

    def score_batch(self, images: Images) -> tuple[Scores, Map]:
        """Scores (B,) and maps (B, H, W) of images uint8 (B, C, H, W) that `preprocessing` made; UserError for others."""
        return self.observe_batch(images)[:2]

    def observe_batch(
        self, images: Images, sizes: Sequence[tuple[int, int]] | None = None
    ) -> tuple[Scores, Map, Table]:
        """`score_batch`, and the statistics (B, 5) of images whose files have these (H, W); see `detection.drift`."""
        scores, maps, pixels = self.run(self._checked(images))
        return scores, maps.reshape(len(images), *maps.shape[-2:]), _with_sizes(pixels, sizes)

    def drift(self, forget: bool = False) -> Drift:
        """Compare all images that `predict` and `score` were given so far with those that calibrated the detector.

        `print(detector.drift().text)` says what changed, and why; `forget` begins anew, as for each shift of a line.
        UserError if the checkpoint, of an older anomap, has kept nothing to compare with.
        """
        if (monitor := self._watching()) is None:
            raise UserError(f"{UNWATCHED}; train or calibrate again")
        found = monitor.drift()
        if forget:
            monitor.forget()
            self._looks = 0
        return found

    def score(self, images: Any, bgr: bool = False) -> Scores:
        """Anomaly scores (N,) of paths, arrays or tensors: what `predict` takes."""
        parts = []
        for _, pixels, sizes in self._batches(_listed(images, self.preprocessing.bands)[0], bgr):
            scores, _, statistics = self.observe_batch(pixels, sizes)
            self._watch(scores, statistics)
            parts.append(scores)
        return np.concatenate(parts) if parts else np.zeros(0)

    @overload
    def predict(self, images: str | os.PathLike[str], bgr: bool = False) -> Prediction: ...
    @overload
    def predict(self, images: list[Any] | tuple[Any, ...], bgr: bool = False) -> list[Prediction]: ...
    @overload
    def predict(self, images: Any, bgr: bool = False) -> Any: ...
    def predict(self, images: Any, bgr: bool = False) -> Any:
        """Score and decide. The maps of all images are in memory at once: `anomap-predict` is for more than that.

        Args:
            images: a path, or an array or tensor (see `Preprocessing.take`), which gives one `Prediction`; or a list of
                those, or a batch (B, C, H, W), (B, H, W, C) or, grey, (B, H, W), which gives a list. Three channels are
                RGB. (3, H, W) is one image in colour: three grey ones are (3, 1, H, W).
            bgr: the three channels of arrays are blue, green, red, as of OpenCV's frames.

        Raises:
            UserError: a file that cannot be read, or an array of a wrong shape or type.
        """
        listed, single = _listed(images, self.preprocessing.bands)
        predictions = [prediction for batch in self._batches(listed, bgr) for prediction in self._decide(*batch, bgr)]
        return predictions[0] if single else predictions

    def _decide(
        self, images: Sequence[Any], pixels: Images, sizes: Sequence[tuple[int, int]], bgr: bool
    ) -> Iterator[Prediction]:
        """Of images as they were given, and as the detector sees them (B, C, H, W)."""
        if self.look is None:
            scores, maps, statistics, attention = *self.run(self._checked(pixels)), None
        else:
            scores, maps, statistics, attention = self.look(self._checked(pixels))
        self._watch(scores, _with_sizes(statistics, sizes))
        shape = maps.shape[-2:]
        for place, image in enumerate(images):
            yield Prediction(
                float(scores[place]),
                bool(scores[place] > self.threshold),
                self.threshold,
                self.pixel_threshold,
                sizes[place],
                maps[place].reshape(shape),
                None if attention is None else attention[place].reshape(shape),
                self.map_scale,
                partial(self.preprocessing.photograph, image, bgr),
            )

    def _batches(
        self, images: Sequence[Any], bgr: bool
    ) -> Iterator[tuple[Sequence[Any], Images, Sequence[tuple[int, int]]]]:
        at_a_time = 1 if self.tiles else BATCH
        for start in range(0, len(images), at_a_time):
            part = images[start : start + at_a_time]
            seen, sizes = zip(*(self.preprocessing.see_sized(image, bgr) for image in part), strict=True)
            yield part, np.stack(seen), sizes

    def _watching(self) -> DriftMonitor | None:
        """Made when it is first asked for."""
        if self._monitor is None and self.reference is not None:
            self._monitor = DriftMonitor(self.reference)
        return self._monitor

    def _watch(self, scores: Scores, statistics: Table) -> None:
        """Add to what `drift` is about; each time that twice as many have come, say it in the log if they have changed."""
        if (monitor := self._watching()) is None:
            return
        monitor.observe(scores, statistics, self.threshold)
        if monitor.images >= ENOUGH * 2**self._looks:
            self._looks = (monitor.images // ENOUGH).bit_length()
            if text := monitor.drift(looks=self._looks).text:
                log.warning("of the last %d images: %s", monitor.images, text)

    @property
    def tiles(self) -> bool:
        """Whether it cuts photographs into tiles: they may have any size, and come one at a time."""
        return not isinstance(self.preprocessing.size, tuple)

    def _checked(self, images: Images) -> Images:
        size = self.preprocessing.size
        expected = (self.preprocessing.channels, *(size if isinstance(size, tuple) else images.shape[2:]))
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
            raise UserError(
                f"images {images.dtype} {images.shape}: score_batch takes uint8 (B, {', '.join(map(str, expected))}); "
                "score and predict take images of any size"
            )
        return np.require(images, requirements=["C", "W"])  # torch warns of what it cannot write to


def _with_sizes(pixels: Table, sizes: Sequence[tuple[int, int]] | None) -> Table:
    """Statistics (B, 5) of `image_statistics` (B, 3) and the (H, W) of files; NaN where these are not known."""
    known = np.full((len(pixels), 2), np.nan) if sizes is None else np.array(sizes).reshape(-1, 2)[:, ::-1]
    return np.concatenate([pixels, known], 1, dtype=np.float32)


def _listed(images: Any, bands: Sequence[int] | None = None) -> tuple[Sequence[Any], bool]:
    """The images as a list, and whether it was a single one; of several `bands`, three dimensions are one image."""
    if isinstance(images, str | os.PathLike | Image.Image):
        return [images], True
    if hasattr(images, "ndim"):
        shape = tuple(images.shape)
        # (H, W, 4) and (H, W, 2), with an alpha channel, are no batches of very narrow images
        grey = bands is None and len(shape) == 3 and shape[0] not in (1, 3) and shape[2] > 4
        many = len(shape) == 4 or grey
        return (images, False) if many else ([images], True)
    if not isinstance(images, Iterable):
        raise UserError(f"images of type {type(images).__name__}: give a path, an array, a tensor, or a list of those")
    return list(images), False


def _upright(
    values: Any, bgr: bool = False, bands: Sequence[int] | None = None
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32] | None]:
    """An image as an array (H, W) or, RGB, (H, W, 3), and its alpha (H, W) in [0, 1], if any; UserError for anything else."""
    array, alpha = _array(values), None
    if bands is not None:
        if array.ndim != 3 or array.shape[2] <= max(bands):
            raise UserError(f"an image of shape {array.shape}: with data.bands={[*bands]} give (H, W, all bands)")
        array = array[:, :, list(bands)]
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 3 and array.shape[2] == 4 and array.dtype in (np.uint8, np.uint16):
        alpha = array[:, :, 3].astype(np.float32) / np.float32(np.iinfo(array.dtype).max)
        array = array[:, :, :3]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or 0 in array.shape:
        raise UserError(
            f"an image of shape {array.shape}: give (H, W), (H, W, 3) or (3, H, W), and many of equal size as "
            "(B, 1 or 3, H, W), (B, H, W) or a list"
        )
    return (array[:, :, ::-1] if bgr and array.ndim == 3 else array), alpha


def _array(values: Any) -> npt.NDArray[Any]:
    """An array in this machine's byte order; UserError for anything else."""
    if isinstance(values, Image.Image):  # as an array, one with a palette would hold indices of colours
        raise UserError("a Pillow image: give its file, or numpy.asarray(image) of one in mode L or RGB")
    try:
        array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    except (TypeError, ValueError) as error:
        raise UserError(f"an image of type {type(values).__name__}: not an array ({error})") from error
    return array.astype(array.dtype.newbyteorder("="), copy=False)
