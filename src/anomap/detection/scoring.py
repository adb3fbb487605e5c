"""The model that scores: image in, anomaly score and anomaly map out. The ONE scoring path.

Evaluation, prediction, export and the monitoring during training all come through `ScoringModel`: nothing else adds the
parts of a score together. `anomap.detection.detector.Detector` is what users load.
"""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anomap.detection.calibration import Threshold, resolve_threshold
from anomap.detection.standardise import Calibration, Standardiser
from anomap.errors import UserError
from anomap.objectives.base import Batch, Objective, Scored


@dataclass
class Scores:
    """Scores of many images, in the order they came.

    Attributes:
        scores: (N,) float64, raw, higher = more abnormal.
        labels: (N,) 0 normal, 1 abnormal.
        map_peaks: (N,) float32, the highest value of each anomaly map.
        pixel: pixel metrics, empty when the images came without masks.
        parts: `part_<name>_auroc`, the image AUROC of each part of the score alone; empty for a single part.
    """

    scores: np.ndarray
    labels: np.ndarray
    map_peaks: np.ndarray
    pixel: dict[str, float | None]
    parts: dict[str, float | None] = field(default_factory=dict)


class ScoringModel(nn.Module):
    """A method with everything that scoring needs besides: preprocessing, standardisation, thresholds.

    Args:
        objective: the method, with the weights that score.
        image_size: (H, W) the method sees.
    """

    def __init__(self, objective: Objective, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.objective = objective
        self.standardiser = Standardiser(len(objective.part_names))
        self.calibration = Calibration()
        self.image_size = image_size
        self.eval()

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

    def parts(self, scored: Scored) -> Tensor:
        """The parts of a score as one tensor (B, K)."""
        return torch.stack([scored.parts[name].float() for name in self.objective.part_names], dim=1)

    def score(self, images: Tensor) -> tuple[Tensor, Scored]:
        """Score images (B, C, H, W) in [0, 1] of the detector's size: anomaly score (B,) and all it was made of."""
        scored = self.objective.score(images)
        return self.standardiser(self.parts(scored)), scored

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Score uint8 images (B, C, H, W) of any size: anomaly score (B,), anomaly map (B, 1, *image_size)."""
        images = images.float() / 255
        # an exported graph takes any size: it always resizes, which changes nothing where the size fits
        if torch.compiler.is_exporting() or images.shape[-2:] != self.image_size:
            images = F.interpolate(images, self.image_size, mode="bilinear", antialias=True)
        score, scored = self.score(images)
        return score, scored.anomaly_map

    def place(self, device: str) -> None:
        """Move to a device, in the memory format that convolutions like.

        Raises:
            UserError: no such device here.
        """
        try:
            self.to(torch.device(device), memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"device={device}: not available here ({str(error).splitlines()[0]}); use cpu") from error

    @torch.inference_mode()
    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`forward` on arrays: uint8 (B, C, H, W) -> scores (B,) float64, maps (B, 1, *image_size) float32."""
        scores, maps = self(torch.from_numpy(images).to(self.calibration.threshold.device))
        return scores.double().cpu().numpy(), maps.float().cpu().numpy()

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Fit the standardiser to held-out normal images (`image` (B, C, H, W) in [0, 1]), and to nothing else."""
        parts, peaks, middles = [], [], []
        for batch in batches:
            scored = self.objective.score(batch["image"])
            parts.append(self.parts(scored))
            middles.append(scored.anomaly_map.flatten(1).median(1).values)
            peaks.append(scored.anomaly_map.flatten(1).amax(1))
        all_parts = torch.cat(parts)
        self.standardiser.fit(all_parts)
        self.calibration.scores = self.standardiser(all_parts)
        self.calibration.map_peaks = torch.cat(peaks)
        self.calibration.map_middle.copy_(torch.cat(middles).median())

    @torch.inference_mode()
    def score_all(self, batches: Iterable[Batch]) -> Scores:
        """Score every image of `batches` (`image` in [0, 1], `label`, and `mask` (B, 1, H, W) if there are any)."""
        # imported here: torchmetrics takes seconds, and prediction needs none of it
        from anomap.detection.gathered import RankingMetric
        from anomap.detection.pixel_metrics import PixelMetrics

        # grown in place: many small tensors kept between the large ones of each batch would scatter the heap
        scores, labels, peaks = array("d"), array("q"), array("f")
        names = self.objective.part_names
        parts, pixel = RankingMetric(len(names), dtype=torch.float32), PixelMetrics()
        for batch in batches:
            score, scored = self.score(batch["image"])
            scores.extend(score.double().tolist())
            parts.update(self.parts(scored), batch["label"])
            labels.extend(batch["label"].tolist())
            peaks.extend(scored.anomaly_map.flatten(1).amax(1).float().tolist())
            if "mask" in batch:
                pixel.update(scored.anomaly_map.float().cpu().numpy(), batch["mask"].cpu().numpy())
        areas = parts.compute() if parts.update_called else [None] * len(names)
        return Scores(
            np.array(scores),
            np.array(labels),
            np.array(peaks),
            pixel.compute() if pixel.update_called else {},
            {f"part_{name}_auroc": area for name, area in zip(names, areas, strict=True)} if len(names) > 1 else {},
        )

    def set_threshold(self, config: Mapping[str, Any], test: Scores | None = None) -> Threshold:
        """Choose the thresholds from the stored scores of the calibration normals.

        The pixel threshold is the level below which the same share of the calibration normals' maps stay everywhere.

        Args:
            config: the strategy, see `resolve_threshold`.
            test: scores of the test set, which only a strategy named `oracle_*` reads.
        """
        threshold = resolve_threshold(
            config,
            self.calibration.scores.double().cpu().numpy(),
            None if test is None else test.scores,
            None if test is None else test.labels,
        )
        quantile = 1 - (threshold.calibration_fpr or 0.0)
        self.calibration.threshold.fill_(threshold.value)
        if len(self.calibration.map_peaks):
            self.calibration.pixel_threshold.copy_(torch.quantile(self.calibration.map_peaks.float(), quantile))
        return threshold
