"""The model that scores: image in, anomaly score and anomaly map out.

The ONE scoring path of evaluation, prediction, export and the monitoring during training: nothing else adds the parts
of a score together. `anomap.detection.detector.Detector` is what users load.
"""

import dataclasses
import logging
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomap.data.images import Size
from anomap.data.imageset import to_float
from anomap.data.tiles import Tiling
from anomap.detection.calibration import Threshold, resolve_threshold, share_of
from anomap.detection.drift import Reference
from anomap.detection.image_statistics import STATISTICS, image_statistics
from anomap.detection.metrics import auroc
from anomap.detection.precision import ieee_float32
from anomap.detection.standardise import Calibration, LearnedPlaces, Standardiser
from anomap.detection.tiled import MAPS, measured
from anomap.errors import UserError
from anomap.objectives.base import Batch, MethodOutput, Objective, device_of

log = logging.getLogger(__name__)

MaskOf = Callable[[int], npt.NDArray[np.bool_] | None]


@dataclass
class ImageScores:
    """Scores of N images, in the order they came."""

    scores: np.ndarray  # (N,) float64, raw, higher = more abnormal
    labels: np.ndarray  # (N,) 0 normal, 1 abnormal
    map_peaks: np.ndarray  # (N,) float32, the highest value of each anomaly map
    pixel: dict[str, float | None]  # pixel metrics; empty without masks
    parts: dict[str, float | None] = field(default_factory=dict)  # `part_<name>_auroc`, unless there is but one part
    # (N, 5), see `anomap.detection.image_statistics.STATISTICS`; NaN where not known
    statistics: np.ndarray = field(default_factory=lambda: np.zeros((0, len(STATISTICS))))
    pixel_seconds: float = 0.0  # that the pixel metrics took, at the size of the masks


class ScoringModel(nn.Module):
    """A method with the weights that score, the (H, W) that it sees, the scale of its score's parts, and thresholds.

    With a `tiling` it takes photographs of any size, (1, C, H, W) in bytes, cuts them, and puts their maps together.
    """

    def __init__(
        self, objective: Objective, image_size: tuple[int, int], tiling: Tiling | None = None, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.objective = objective
        self.calibration = Calibration()
        self.places = LearnedPlaces()
        self.image_size = image_size
        self.tiling = tiling  # of photographs of any size; `image_size` is that of a tile then
        self.scale = scale  # of photographs, before they are tiled
        self.standardiser = Standardiser(len(self.part_names))
        self.contamination = 0.0  # suspected share of abnormal images among those given to `calibrate`
        self.eval()

    @property
    def reads(self) -> Size:
        """The size at which it takes images: that of the network, of its finest look, or for tiles a factor of their own."""
        return self.image_size if self.tiling is None else self.tiling.reads(self.scale)

    @property
    def part_names(self) -> tuple[str, ...]:
        """The parts of a score, in order: those of the method in each look, or what its map has at its highest places."""
        if self.places.known:
            return ("place",)
        return self.objective.part_names if self.tiling is None else self.tiling.named(self.objective.part_names)

    @property
    def threshold(self) -> float:
        """An image is abnormal iff its score is above it."""
        return float(self.calibration.threshold)

    @property
    def pixel_threshold(self) -> float:
        """A pixel is abnormal iff its map value is above it."""
        return float(self.calibration.pixel_threshold)

    @property
    def map_scale(self) -> tuple[float, float]:
        """One range for the colours of all maps: from the middle of normal maps to well above the pixel threshold."""
        middle = float(self.calibration.map_middle)
        return middle, middle + 1.5 * max(self.pixel_threshold - middle, 1e-6)

    def parts(self, output: MethodOutput) -> Tensor:
        """The parts of a score as one tensor (B, K)."""
        return output.columns(self.part_names)

    def ready(self, stored: Tensor) -> Tensor:
        """Stored images, uint8 (B, C, H, W), as `output` takes them: in [0, 1], where it computes; as they are to be tiled."""
        return stored if self.tiling is not None else to_float(stored.to(device_of(self)))

    def output(self, images: Tensor, wanted: Collection[str] = MAPS, shown: Tensor | None = None) -> MethodOutput:
        """What the method says of images (B, C, H, W): in [0, 1] of the detector's size; or in bytes, to be tiled.

        Tiled, it has only the maps that are `wanted`: each takes as many floats as the photograph has pixels. `shown` are the
        images as they came, if they were resized.
        """
        output = measured(self.objective, images, self.tiling, wanted)
        if not self.places.known:
            return output
        maps, scores = self.places.compare(images if shown is None else shown, output.anomaly_map)  # on the CPU
        return dataclasses.replace(output, parts={"place": scores.to(device_of(self))}, anomaly_map=maps)

    @ieee_float32()
    def score(
        self, images: Tensor, wanted: Collection[str] = MAPS, shown: Tensor | None = None
    ) -> tuple[Tensor, MethodOutput]:
        """Score what `output` takes: anomaly score (B,) and what it was made of."""
        output = self.output(images, wanted, shown)
        return self.standardiser(self.parts(output)), output

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Score uint8 images (B, C, H, W) of any size: anomaly score (B,), anomaly map (B, 1, *image_size).

        With tiles, the map has the photograph's own size.
        """
        if self.tiling is not None:
            score, output = self.score(images, MAPS[:1])
            return score, output.anomaly_map
        shown, images = images, images.float() / 255
        # an exported graph takes any size: it always resizes, which changes nothing where the size fits
        if torch.compiler.is_exporting() or images.shape[-2:] != self.image_size:
            images = F.interpolate(images, self.image_size, mode="bilinear", antialias=True)
        if torch.compiler.is_exporting() and self.places.known:  # which are compared outside of the graph
            anomaly_map = self.objective.score(images).anomaly_map
            return anomaly_map.amax((1, 2, 3)), anomaly_map
        score, output = self.score(images, shown=shown)
        return score, output.anomaly_map

    def place(self, device: str) -> None:
        """Move to a device, in the memory format that convolutions like; raises UserError if there is none here."""
        try:
            self.to(torch.device(device), memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"device={device}: not available here ({str(error).splitlines()[0]}); use cpu") from error

    @property
    def reference(self) -> Reference | None:
        """What new images are compared with; None of a checkpoint that kept none."""
        stored = self.calibration
        if not len(stored.statistics):
            return None
        scores = stored.scores[~stored.scaling].double().numpy()
        return Reference(scores, stored.statistics.double().numpy(), self.threshold)

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`forward` on arrays: uint8 (B, C, H, W) -> scores (B,) float64, maps (B, 1, *image_size) float32."""
        return self.observe(images)[:2]

    @torch.inference_mode()
    def observe(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`run`, and the `image_statistics` (B, 3) of the images."""
        given = torch.from_numpy(images)
        given = given if self.tiling else given.to(self.standardiser.mean.device)
        scores, maps = self(given)
        statistics = self._statistics(given)
        return scores.cpu().double().numpy(), maps.float().cpu().numpy(), statistics

    @torch.inference_mode()
    def look(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        """`observe` of images of the detector's size, and the attention maps (B, 1, *image_size) of a method that has them."""
        ready = self.ready(torch.from_numpy(images))
        score, output = self.score(ready, MAPS[:2])
        attention = None if output.attention_map is None else output.attention_map.float().cpu().numpy()
        maps, statistics = output.anomaly_map.float().cpu().numpy(), self._statistics(ready)
        return score.cpu().double().numpy(), maps, statistics, attention

    @staticmethod
    def _statistics(images: Tensor) -> np.ndarray:
        """Where the images are; on the CPU by NumPy, which is faster there."""
        if images.device.type == "cpu":
            return image_statistics(images.numpy())
        with torch.inference_mode(False), torch.no_grad():  # in which views of every kind of tensor can be taken
            return image_statistics(images).cpu().numpy()

    @torch.no_grad()
    def learn_places(self, photographs: Sequence[npt.NDArray[np.uint8]]) -> None:
        """Learn what normal photographs (C, H, W) of one size show at each place; before `calibrate`."""
        copies = (torch.from_numpy(photograph[None].copy()) for photograph in photographs)  # theirs are read-only
        with ieee_float32():
            outputs = (measured(self.objective, self.ready(one), self.tiling, MAPS[:1]) for one in copies)
            self.places.learn(photographs, (output.anomaly_map.float().cpu() for output in outputs))
        self.standardiser = Standardiser(1).to(device_of(self))

    def calibrate(self, batches: Iterable[Batch], trained_on: int | None = None) -> None:
        """Learn the scale of the score's parts from held-out normal images, and keep their scores.

        For a score of several parts, some images set the scale of the parts and the others the thresholds. If the same
        images did both, a new image would not be exchangeable with them, and the threshold could promise nothing.

        Args:
            batches: `image` (B, C, H, W) in [0, 1], and `scaling` (B,), True for the images that set the scale; without
                it every second one does; and `size` (B, 2), the (H, W) of the files.
            trained_on: how many images the method was trained on; a part that needs more is left out of the score.
        """
        if few := self.weigh_parts(trained_on):
            log.warning(
                "the score leaves out %s: learned from %d images, which are too few (at least %d are needed)",
                *(" and ".join(few), trained_on, max(self.objective.minimum_images[name] for name in few)),
            )
        self.recalibrate(batches)

    @torch.no_grad()
    def recalibrate(self, batches: Iterable[Batch]) -> Tensor:
        """`calibrate`, with the parts weighed as they are; returns the scores (N,) that the images had before."""
        rows, scaling, statistics = [], [], []
        for batch in batches:
            with ieee_float32():
                rows.append(self.calibration_rows(self.output(batch["image"], MAPS[:1])))
            statistics.append(self.statistics_of(batch))
            if "scaling" in batch:
                scaling.append(batch["scaling"].cpu())
        table = torch.cat(rows)
        before = self.standardiser(table[:, :-2]).cpu()
        self.learn_calibration(table, torch.cat(scaling) if scaling else torch.arange(len(table)) % 2 == 1)
        self.calibration.statistics = torch.from_numpy(np.concatenate(statistics))
        return before

    def statistics_of(self, batch: Batch) -> np.ndarray:
        """The statistics (B, 5) of a batch's images, float32; NaN for the size of files that is not known."""
        pixels = self._statistics(batch["image"])
        size = batch["size"].cpu().numpy()[:, ::-1] if "size" in batch else np.full((len(pixels), 2), np.nan)
        return np.concatenate([pixels, size], 1, dtype=np.float32)

    def calibration_rows(self, output: MethodOutput) -> Tensor:
        """What calibration takes of each image (B, K + 2): the parts, the highest and the middle value of its map."""
        flat, parts = output.anomaly_map.flatten(1).float(), self.parts(output)
        map_values = torch.cat([flat.amax(1, keepdim=True), flat.median(1, keepdim=True).values], 1)
        return torch.cat([parts, map_values.to(parts)], 1)  # maps of whole photographs lie on the CPU

    def learn_calibration(self, rows: Tensor, scaling: Tensor) -> None:
        """Learn from the `calibration_rows` (N, K + 2) of normal images; `scaling` (N,) marks those that set the scale."""
        parts = rows[:, :-2]
        chosen = scaling & self.standardiser.scales
        self.standardiser.fit(_without_highest(parts[chosen.to(parts.device)], self.contamination))
        self.calibration.scores = self.standardiser(parts).cpu()
        self.calibration.scaling = chosen
        self.calibration.map_peaks = rows[:, -2].cpu()
        self.calibration.map_middle.copy_(rows[:, -1].median())

    def weigh_parts(self, trained_on: int | None) -> list[str]:
        """Weigh the parts, by what is configured and what they were learned from.

        Those that need more training images are left out, unless none would be left, and returned.
        """
        if self.places.known:
            return []
        names, minimum = self.objective.part_names, self.objective.minimum_images
        few = [] if trained_on is None else [name for name in names if trained_on < minimum.get(name, 0)]
        if len(few) == len(names):
            few = []
        shares, chosen = self.objective.part_shares(), self.objective.part_weights
        weights = [0.0 if name in few else chosen.get(name, 1.0) * shares.get(name, 1.0) for name in names]
        looks = len(self.part_names) // len(names)
        self.standardiser.weights.copy_(torch.tensor(weights if len(names) > 1 else [1.0]).repeat(looks))
        return few

    @torch.inference_mode()
    def score_all(self, batches: Iterable[Batch], mask_of: MaskOf | None = None) -> ImageScores:
        """Score every image of `batches` (`image` in [0, 1], `label`, and for `mask_of` their `index`).

        `mask_of`, if there are masks, gives that of an index, bool (H, W) of any size, for the pixel metrics; None for an
        image that these leave out.
        """
        # imported here: torchmetrics takes seconds, and only masks need it
        measure = None if mask_of is None else import_module("anomap.detection.pixel_metrics").AgainstMasks(mask_of)
        # grown in place: many small tensors kept between the large ones of each batch would scatter the heap
        scores, labels, peaks, parts, statistics = array("d"), array("q"), array("f"), array("f"), array("f")
        names = self.part_names
        for batch in batches:
            score, output = self.score(batch["image"], MAPS[:1])
            scores.extend(score.cpu().tolist())
            parts.extend(self.parts(output).flatten().tolist())
            statistics.extend(self.statistics_of(batch).ravel())
            labels.extend(batch["label"].tolist())
            peaks.extend(output.anomaly_map.flatten(1).amax(1).float().cpu().tolist())
            if measure is not None:
                measure.update(batch["index"].tolist(), output.anomaly_map.float().cpu().numpy())
        columns = np.array(parts).reshape(-1, len(names)).T if len(names) > 1 else ()
        return ImageScores(
            np.array(scores),
            np.array(labels),
            np.array(peaks),
            {} if measure is None else measure.compute(),
            {f"part_{name}_auroc": auroc(part, labels) for name, part in zip(names, columns, strict=False)},
            np.array(statistics).reshape(-1, len(STATISTICS)),
            0.0 if measure is None else measure.seconds,
        )

    def set_threshold(self, config: Mapping[str, Any], test: ImageScores | None = None) -> Threshold:
        """Choose the thresholds from the stored scores of the calibration normals that set them (`resolve_threshold`).

        The pixel threshold is the k-th smallest of their n map peaks, where k of their scores are at or below the
        threshold: with `threshold=quantile` it promises the same of a whole image, P(any pixel is above) <= 1 - k / (n + 1).
        Only a strategy named `oracle_*` reads `test`.
        """
        stored, deciding = self.calibration, ~self.calibration.scaling
        scores = stored.scores[deciding].double().numpy()
        labelled = (None, None) if test is None else (test.scores, test.labels)
        threshold = resolve_threshold(config, scores, *labelled, contamination=self.contamination)
        stored.threshold.fill_(threshold.value)
        if len(scores):
            rank = max(1, int((scores <= threshold.value).sum()))
            stored.pixel_threshold.copy_(stored.map_peaks[deciding].kthvalue(rank).values)
        if threshold.note and self.standardiser.scales:
            others = f"; {int(stored.scaling.sum())} more calibration image(s) set the scale of the score's parts"
            threshold = dataclasses.replace(threshold, note=threshold.note + others)
        return threshold


def _without_highest(parts: Tensor, share: float) -> Tensor:
    """Parts (N, K) without those of the share of images that are farthest above the median in any part, in robust deviations."""
    if not share or len(parts) < 2:
        return parts
    offset = parts - parts.median(0).values
    far = (offset / offset.abs().median(0).values.clamp(min=1e-12)).amax(1)
    return parts[far.argsort(stable=True)[: len(parts) - share_of(len(parts), share)].sort().values]
