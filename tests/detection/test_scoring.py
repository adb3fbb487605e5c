"""The one scoring path: standardised parts, thresholds from calibration normals, any image size."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from anomap.detection.calibration import quantile_threshold
from anomap.detection.scoring import ScoringModel
from anomap.detection.standardise import Standardiser
from anomap.objectives.base import Objective, Scored


class Moments(Objective):
    """Two parts of very different scale: the mean, and a thousand times the spread; the map is the image."""

    part_names = ("mean", "spread")

    def score(self, images: Tensor) -> Scored:
        flat = images.flatten(1)
        return Scored({"spread": 1000 * flat.std(1) + 7, "mean": flat.mean(1)}, images.mean(1, keepdim=True))


class Mean(Objective):
    """One part."""

    part_names = ("mean",)

    def score(self, images: Tensor) -> Scored:
        return Scored({"mean": images.flatten(1).mean(1)}, images[:, :1])


def images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) ** torch.linspace(
        1, 3, count
    ).view(-1, 1, 1, 1)


def calibrated(objective: Objective, normals: Tensor, sizes: Sequence[int] = (4, 3, 4)) -> ScoringModel:
    detector = ScoringModel(objective, (8, 8))
    detector.calibrate({"image": part} for part in normals.split(list(sizes)))
    return detector


def test_the_score_is_the_sum_of_the_standardised_parts() -> None:
    normals, test = images(11), images(5, seed=1)
    detector = calibrated(Moments(), normals)
    parts = np.stack([normals.flatten(1).mean(1).numpy(), 1000 * normals.flatten(1).std(1).numpy() + 7], 1)
    mean, deviation = parts.mean(0), parts.std(0)
    wanted = np.stack([test.flatten(1).mean(1).numpy(), 1000 * test.flatten(1).std(1).numpy() + 7], 1)
    expected = ((wanted - mean) / deviation).sum(1)
    np.testing.assert_allclose(detector.score(test)[0].numpy(), expected, rtol=1e-4, atol=1e-4)
    # on the calibration normals themselves it has mean 0
    assert detector.calibration.scores.mean().item() == pytest.approx(0, abs=1e-4)


def test_one_part_is_the_raw_score() -> None:
    detector, test = calibrated(Mean(), images(11)), images(5, seed=1)
    assert torch.equal(detector.score(test)[0], test.flatten(1).mean(1))


def test_equal_calibration_images_do_not_blow_the_score_up() -> None:
    for normals in (images(1), images(1).repeat(6, 1, 1, 1)):
        detector = calibrated(Moments(), normals, [len(normals)])
        assert torch.isfinite(detector.score(images(4, seed=2))[0]).all()


def test_standardiser_scale() -> None:
    standardiser = Standardiser(2)
    standardiser.fit(torch.tensor([[1.0, 10.0], [3.0, 10.0]]))
    assert standardiser(torch.tensor([[4.0, 12.0]])).tolist() == [2.0 + 2.0]


def test_calibration_reads_nothing_but_the_calibration_set() -> None:
    """Scoring test images, however many, changes nothing that is stored."""
    detector = calibrated(Moments(), images(11))
    detector.set_threshold({"strategy": "quantile", "quantile": 0.8})
    before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
    test = images(9, seed=3)
    detector.score_all([{"image": test, "label": torch.zeros(9, dtype=torch.long)}])
    scores = detector.score_all([{"image": test, "label": torch.ones(9, dtype=torch.long)}])
    detector.set_threshold({"strategy": "quantile", "quantile": 0.8}, scores)
    after = detector.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_thresholds_come_from_the_calibration_scores() -> None:
    normals = images(11)
    detector = calibrated(Mean(), normals)
    threshold = detector.set_threshold({"strategy": "quantile", "quantile": 0.8})
    scores = normals.flatten(1).mean(1).double().numpy()
    assert threshold.value == detector.threshold == quantile_threshold(scores, 0.8)[0]
    assert threshold.calibration_fpr is not None
    assert threshold.calibration_fpr == (scores > threshold.value).mean()
    peaks = normals.flatten(1).amax(1)
    # the same share of the calibration maps stays below the pixel threshold everywhere
    assert (peaks > detector.pixel_threshold).float().mean() <= threshold.calibration_fpr + 1 / 11
    low, high = detector.map_scale
    assert low < detector.pixel_threshold < high


def test_an_image_at_the_threshold_is_normal() -> None:
    detector = calibrated(Mean(), images(11))
    threshold = detector.set_threshold({"strategy": "manual", "value": 0.25})
    assert threshold.decide([0.25, np.nextafter(0.25, 1)]).tolist() == [False, True]


def test_score_all_keeps_the_order_and_every_image() -> None:
    detector, test = calibrated(Moments(), images(11)), images(7, seed=4)
    labels = torch.tensor([0, 1, 0, 0, 1, 1, 0])
    masks = (test > 0.5).to(torch.uint8)
    for size in (1, 2, 7):
        batches = [
            {"image": i, "label": y, "mask": m}
            for i, y, m in zip(test.split(size), labels.split(size), masks.split(size), strict=True)
        ]
        scores = detector.score_all(batches)
        np.testing.assert_allclose(scores.scores, detector.score(test)[0].double().numpy(), rtol=1e-5, atol=1e-5)
        assert scores.labels.tolist() == labels.tolist()
        assert scores.map_peaks.tolist() == test.flatten(1).amax(1).tolist()
        assert scores.pixel["pixel_auroc"] == 1.0  # the mask is the map, cut
    assert detector.score_all({"image": test, "label": labels} for _ in range(1)).pixel == {}


def test_each_part_of_the_score_is_measured_alone() -> None:
    detector, test = calibrated(Moments(), images(11)), images(7, seed=4)
    labels = torch.tensor([0, 1, 0, 0, 1, 1, 0])
    found = detector.score_all({"image": i, "label": y} for i, y in zip(test.split(3), labels.split(3), strict=True))
    assert found.parts == pytest.approx(
        {
            "part_mean_auroc": roc_auc_score(labels, test.flatten(1).mean(1)),
            "part_spread_auroc": roc_auc_score(labels, test.flatten(1).std(1)),
        }
    )
    # the only part of a score is the score
    assert calibrated(Mean(), images(11)).score_all([{"image": test, "label": labels}]).parts == {}


def test_raw_images_of_any_size_are_brought_to_the_detectors() -> None:
    detector = calibrated(Mean(), images(11))
    raw = torch.randint(0, 256, (3, 1, 20, 12), dtype=torch.uint8)
    score, anomaly_map = detector(raw)
    small = F.interpolate(raw.float() / 255, (8, 8), mode="bilinear", antialias=True)
    torch.testing.assert_close(score, small.flatten(1).mean(1))
    assert anomaly_map.shape == (3, 1, 8, 8)
    exact = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(detector(exact)[1], exact.float() / 255)  # nothing is resampled that fits
