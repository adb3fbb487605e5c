"""The one scoring path: standardised parts, thresholds from calibration normals, any image size."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn import functional as F

from anomap.data.resizing import resize_map
from anomap.detection.scoring import ScoringModel
from anomap.detection.standardise import Standardiser, fuse
from anomap.objectives.base import MethodOutput, Objective


class Moments(Objective):
    """Two parts of very different scale: the mean, and a thousand times the spread; the map is the image."""

    part_names = ("mean", "spread")

    def score(self, images: Tensor) -> MethodOutput:
        flat = images.flatten(1)
        return MethodOutput({"spread": 1000 * flat.std(1) + 7, "mean": flat.mean(1)}, images.mean(1, keepdim=True))


class Mean(Objective):
    """One part."""

    part_names = ("mean",)

    def score(self, images: Tensor) -> MethodOutput:
        return MethodOutput({"mean": images.flatten(1).mean(1)}, images[:, :1])


def images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) ** torch.linspace(
        1, 3, count
    ).view(-1, 1, 1, 1)


def calibrated(objective: Objective, normals: Tensor, sizes: Sequence[int] = (4, 3, 4)) -> ScoringModel:
    """Every third normal image sets the scale of the parts."""
    model = ScoringModel(objective, (8, 8))
    scaling = torch.arange(len(normals)) % 3 == 0
    split = zip(normals.split(list(sizes)), scaling.split(list(sizes)), strict=True)
    model.calibrate({"image": part, "scaling": chosen} for part, chosen in split)
    return model


def test_the_score_is_the_sum_of_the_standardised_parts() -> None:
    normals, test = images(11), images(5, seed=1)
    model = calibrated(Moments(), normals)
    parts = np.stack([normals.flatten(1).mean(1).numpy(), 1000 * normals.flatten(1).std(1).numpy() + 7], 1)
    mean, deviation = parts[::3].mean(0), parts[::3].std(0)
    wanted = np.stack([test.flatten(1).mean(1).numpy(), 1000 * test.flatten(1).std(1).numpy() + 7], 1)
    expected = ((wanted - mean) / deviation).sum(1)
    np.testing.assert_allclose(model.score(test)[0].numpy(), expected, rtol=1e-4, atol=1e-4)
    # on the normals that set the scale it has mean 0
    assert model.calibration.scores[::3].mean().item() == pytest.approx(0, abs=1e-4)


def test_one_part_is_the_raw_score() -> None:
    model, test = calibrated(Mean(), images(11)), images(5, seed=1)
    assert torch.equal(model.score(test)[0], test.flatten(1).mean(1))


def test_few_and_equal_calibration_images_do_not_blow_the_score_up() -> None:
    nearly = images(1).repeat(6, 1, 1, 1) * torch.linspace(1, 1 + 1e-6, 6).view(-1, 1, 1, 1)
    for normals in (images(1), images(2), images(3), images(1).repeat(6, 1, 1, 1), nearly):
        model = calibrated(Moments(), normals, [len(normals)])
        assert model.score(images(4, seed=2))[0].abs().max() < 1000  # the raw parts are of hundreds


def test_standardiser_scale() -> None:
    standardiser = Standardiser(2)
    standardiser.fit(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))
    assert standardiser(torch.tensor([[4.0, 2.0]])).tolist() == [2.0 + 2.0]
    standardiser.fit(torch.tensor([[20.0, -10.0]]))  # one image: a tenth of the mean
    assert standardiser(torch.tensor([[22.0, -9.0]])).tolist() == [1.0 + 1.0]


def test_a_part_of_weight_0_is_left_out_even_where_it_is_not_finite() -> None:
    parts = torch.tensor([[1.0, 2.0, torch.inf], [3.0, -4.0, torch.nan]])
    assert fuse(parts, torch.tensor([1.0, 0.5, 0.0])).tolist() == [2.0, 1.0]


def test_one_part_far_out_does_not_drown_two_that_agree() -> None:
    alone, together = fuse(torch.tensor([[60.0, 0.0, 0.0], [2.9, 2.9, 2.9]]), torch.ones(3))
    assert together > alone > 3
    assert fuse(torch.tensor([[60.0]]), torch.ones(1)) == 60  # a part alone stays raw


class HalfKnown(Moments):
    """Whose spread comes from half as many images as it would take."""

    def part_shares(self) -> Mapping[str, float]:
        return {"spread": 0.5}


def test_a_part_counts_with_its_weight_times_its_share() -> None:
    objective = HalfKnown()
    objective.part_weights = {"mean": 3.0, "spread": 0.5}
    model = ScoringModel(objective, (8, 8))
    model.weigh_parts(trained_on=20)
    assert model.standardiser.weights.tolist() == [3.0, 0.25]


class Scarce(Moments):
    """Whose spread means nothing below ten training images."""

    minimum_images: Mapping[str, int] = {"spread": 10}


def test_a_part_learned_from_too_few_images_is_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    normals, test = images(9), images(5, seed=1)
    model = ScoringModel(Scarce(), (8, 8))
    model.calibrate([{"image": normals}], trained_on=9)
    assert caplog.messages == [
        "the score leaves out spread: learned from 9 images, which are too few (at least 10 are needed)"
    ]
    # what is left is a score of one part: raw, and all images set its threshold
    assert torch.equal(model.score(test)[0], test.flatten(1).mean(1))
    assert not model.calibration.scaling.any()
    caplog.clear()
    model.calibrate([{"image": normals}], trained_on=10)
    assert not caplog.messages
    assert model.calibration.scaling.sum() == 4


def test_a_score_keeps_its_only_part() -> None:
    class ScarceMean(Mean):
        minimum_images: Mapping[str, int] = {"mean": 10}

    model = ScoringModel(ScarceMean(), (8, 8))
    model.calibrate([{"image": images(4)}], trained_on=1)
    assert model.standardiser.weights.tolist() == [1]


def test_calibration_reads_nothing_but_the_calibration_set() -> None:
    """Scoring test images, however many, changes nothing that is stored."""
    model = calibrated(Moments(), images(11))
    model.set_threshold({"strategy": "quantile", "quantile": 0.8})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    test = images(9, seed=3)
    model.score_all([{"image": test, "label": torch.zeros(9, dtype=torch.long)}])
    scores = model.score_all([{"image": test, "label": torch.ones(9, dtype=torch.long)}])
    model.set_threshold({"strategy": "quantile", "quantile": 0.8}, scores)
    after = model.state_dict()
    torch.testing.assert_close(after, before, rtol=0, atol=0, equal_nan=True)


def test_thresholds_come_from_the_images_that_did_not_set_the_scale() -> None:
    normals = images(11)
    model = calibrated(Moments(), normals)
    threshold = model.set_threshold({"strategy": "quantile", "quantile": 0.7})
    deciding = np.arange(11) % 3 != 0  # 7 images: the 6th of each is the threshold
    scores = model.score(normals)[0].double().numpy()[deciding]
    peaks = normals.flatten(1).amax(1).numpy()[deciding]
    assert model.threshold == threshold.value == pytest.approx(np.sort(scores)[5])
    assert model.pixel_threshold == np.sort(peaks)[5]
    assert threshold.promised_fpr == 2 / 8
    assert threshold.calibration_fpr == 1 / 7
    low, high = model.map_scale
    assert low < model.pixel_threshold < high


def test_the_threshold_of_one_part_comes_from_all_images() -> None:
    normals = images(11)
    model = calibrated(Mean(), normals)
    threshold = model.set_threshold({"strategy": "quantile", "quantile": 0.8})
    scores, peaks = normals.flatten(1).mean(1).double().numpy(), normals.flatten(1).amax(1)
    assert threshold.value == model.threshold == np.sort(scores)[9]
    assert model.pixel_threshold == peaks.sort().values[9]
    assert threshold.promised_fpr == 2 / 12
    assert threshold.note == ""


@pytest.mark.parametrize(
    ("objective", "says"),
    [
        (Mean(), "11 calibration image(s) set the threshold, too few to promise a false-positive rate of 0.05"),
        (Moments(), "which promises 0.125; 4 more calibration image(s) set the scale of the score's parts"),
    ],
)
def test_what_few_images_promise_is_one_line(objective: Objective, says: str) -> None:
    threshold = calibrated(objective, images(11)).set_threshold({"strategy": "quantile", "quantile": 0.95})
    assert says in threshold.note
    assert "\n" not in threshold.note


@pytest.mark.parametrize("strategy", [{"strategy": "manual", "value": -1e9}, {"strategy": "manual", "value": 1e9}])
def test_a_threshold_beyond_all_scores_leaves_a_pixel_threshold(strategy: dict[str, Any]) -> None:
    model = calibrated(Moments(), images(11))
    assert model.set_threshold(strategy).promised_fpr is None
    assert np.isfinite(model.pixel_threshold)


def test_an_image_at_the_threshold_is_normal() -> None:
    model = calibrated(Mean(), images(11))
    threshold = model.set_threshold({"strategy": "manual", "value": 0.25})
    assert threshold.decide([0.25, np.nextafter(0.25, 1)]).tolist() == [False, True]


def test_score_all_keeps_the_order_and_every_image() -> None:
    model, test = calibrated(Moments(), images(11)), images(7, seed=4)
    labels = torch.tensor([0, 1, 0, 0, 1, 1, 0])
    masks = (test[:, 0] > 0.5).numpy()
    for size in (1, 2, 7):
        columns = (test.split(size), labels.split(size), torch.arange(7).split(size))
        batches = [{"image": i, "label": y, "index": n} for i, y, n in zip(*columns, strict=True)]
        scores = model.score_all(batches, lambda index: masks[index])
        np.testing.assert_allclose(scores.scores, model.score(test)[0].double().numpy(), rtol=1e-5, atol=1e-5)
        assert scores.labels.tolist() == labels.tolist()
        assert scores.map_peaks.tolist() == test.flatten(1).amax(1).tolist()
        assert scores.pixel["pixel_auroc"] == 1.0  # the mask is the map, cut
    assert model.score_all({"image": test, "label": labels} for _ in range(1)).pixel == {}


def test_pixels_are_measured_at_the_size_of_each_mask() -> None:
    """What pixel metrics of maps that were enlarged before say; an image without a known mask is left out."""
    model, test = calibrated(Mean(), images(11)), images(3, seed=4)
    batch = {"image": test, "label": torch.tensor([1, 1, 1]), "index": torch.arange(3)}
    masks = [np.zeros((50, 40), bool), None, np.zeros((9, 30), bool)]
    masks[0][:, 7] = masks[2][3:5, 8:12] = True  # type: ignore[index]
    found = model.score_all([batch], masks.__getitem__).pixel
    maps = model.score(test)[1].anomaly_map.numpy()
    known = [(resize_map(maps[i, 0], mask.shape), mask) for i, mask in enumerate(masks) if mask is not None]
    values, truth = (np.concatenate([part.ravel() for part in column]) for column in zip(*known, strict=True))
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(truth, values), abs=1e-9)
    assert model.score_all([batch], lambda _: None).pixel == dict.fromkeys(("pixel_auroc", "pixel_ap", "pixel_aupro"))


def test_each_part_of_the_score_is_measured_alone() -> None:
    model, test = calibrated(Moments(), images(11)), images(7, seed=4)
    labels = torch.tensor([0, 1, 0, 0, 1, 1, 0])
    found = model.score_all({"image": i, "label": y} for i, y in zip(test.split(3), labels.split(3), strict=True))
    assert found.parts == pytest.approx(
        {
            "part_mean_auroc": roc_auc_score(labels, test.flatten(1).mean(1)),
            "part_spread_auroc": roc_auc_score(labels, test.flatten(1).std(1)),
        }
    )
    # the only part of a score is the score
    assert calibrated(Mean(), images(11)).score_all([{"image": test, "label": labels}]).parts == {}


def test_raw_images_of_any_size_are_brought_to_the_models() -> None:
    model = calibrated(Mean(), images(11))
    raw = torch.randint(0, 256, (3, 1, 20, 12), dtype=torch.uint8)
    score, anomaly_map = model(raw)
    small = F.interpolate(raw.float() / 255, (8, 8), mode="bilinear", antialias=True)
    torch.testing.assert_close(score, small.flatten(1).mean(1))
    assert anomaly_map.shape == (3, 1, 8, 8)
    exact = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(model(exact)[1], exact.float() / 255)  # nothing is resampled that fits
