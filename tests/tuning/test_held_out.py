"""What no trial is trained with, and what the objective is made of."""

import weakref
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from anomap.config import build
from anomap.data.anomaly_data import AnomalyData
from anomap.data.build import build_data
from anomap.detection.scoring import ScoringModel
from anomap.errors import UserError
from anomap.objectives.base import MethodOutput, Objective
from anomap.tuning.held_out import HeldOut, without
from tests import tiny

HARD = tiny.config()["augmentation"]
HELD = {**HARD, "only_regions": ["blob", "crack"], "only_fills": ["noise", "shift"], "seed": 0}


def test_what_is_held_out_is_never_drawn_in_training() -> None:
    drawn = build(without(HARD, HELD)).describe(torch.arange(2000), 0)
    words = {word for line in drawn for word in line.replace(" + ", " x ").split(" x ")}
    assert not words & {"blob", "crack", "noise", "shift"}
    assert words >= {"rectangle", "scar", "cutout", "rotate"}
    held = {
        word for line in build(HELD).describe(torch.arange(2000), 0) for word in line.replace(" + ", " x ").split(" x ")
    }
    assert held == {"blob", "crack", "noise", "shift"}


def test_a_kind_is_held_out_whatever_it_is_called() -> None:
    cutout = tiny.config("augmentation=cutout")["augmentation"]
    with pytest.raises(UserError, match="augmentation=cutout has no other"):
        without(cutout, {**HELD, "only_regions": ["rectangle"]})
    with pytest.raises(UserError, match="augmentation=cutout has no other"):
        without(cutout, {**HELD, "only_fills": ["cutout"]})
    assert without(cutout, HELD)["fills"].keys() == cutout["fills"].keys()


@pytest.mark.parametrize(
    ("held", "told"), [([], "at least one"), (None, "at least one"), (["bolb"], "bolb is not there")]
)
def test_what_cannot_be_held_out_is_one_line(held: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        without(HARD, {**HELD, "only_regions": held})


def test_a_training_that_draws_from_held_out_kinds_only_is_refused() -> None:
    with pytest.raises(UserError, match="nothing is left"):
        without({**HARD, "only_fills": ["noise"]}, HELD)


class Roughness(Objective):
    """Scores the contrast between neighbouring pixels; its second part is always the same."""

    part_names = ("roughness", "constant")

    def learn_statistics(self, batches: Any) -> None:
        """Nothing."""

    def score(self, images: torch.Tensor) -> MethodOutput:
        rough = (images.diff(dim=3).abs()).mean((1, 2, 3))
        return MethodOutput({"roughness": rough, "constant": torch.ones(len(images))}, images[:, :1])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> AnomalyData:
    root = tiny.write_folder(tmp_path_factory.mktemp("data"), train=40)
    for path in (root / "test").rglob("*.png"):
        path.write_text("no image")
    made = build_data(tiny.config(f"data.root={root}")["data"])
    made.layout = replace(made.layout.scan(), test=[])
    made.setup()
    return made


def test_the_objective_ranks_changed_images_against_the_same_images_unchanged(data: AnomalyData) -> None:
    assert len(data.test) == 0
    held = HeldOut(data, {**HELD, "only_fills": ["noise"]})
    assert sum(len(batch["image"]) for batch in held.normal()) == len(data.calibration)
    assert held.auroc(Roughness()) == 1.0  # noise is rougher than smooth stripes
    again = HeldOut(data, {**HELD, "only_fills": ["noise"]})
    assert all(torch.equal(a, b) for a, b in zip(held.abnormal(), again.abnormal(), strict=True))


def test_the_scale_is_set_by_the_images_that_set_it_in_every_run(
    data: AnomalyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    detectors: list[ScoringModel] = []
    calibrate = ScoringModel.calibrate

    def noted(detector: ScoringModel, batches: Any, trained_on: int | None = None) -> None:
        detectors.append(detector)
        calibrate(detector, batches, trained_on)

    monkeypatch.setattr(ScoringModel, "calibrate", noted)
    HeldOut(data, HELD).auroc(Roughness())
    assert data.calibration.scaling is not None
    assert detectors[0].calibration.scaling.tolist() == data.calibration.scaling.tolist()


def test_a_part_learned_from_too_few_images_is_left_out_as_in_a_run(data: AnomalyData) -> None:
    class Drowned(Roughness):
        """Its second part ranks the images the wrong way round, and counts for more."""

        part_weights: Mapping[str, float] = {"constant": 10.0}

        def score(self, images: torch.Tensor) -> MethodOutput:
            scored = super().score(images)
            scored.parts["constant"] = -scored.parts["roughness"]
            return scored

    class Hungry(Drowned):
        minimum_images: Mapping[str, int] = {"constant": len(data.train) + 1}

    held = HeldOut(data, {**HELD, "only_fills": ["noise"]})
    assert held.auroc(Drowned()) == 0.0
    assert held.auroc(Hungry()) == 1.0


def test_an_image_in_which_nothing_changed_is_not_called_abnormal(data: AnomalyData) -> None:
    half = HeldOut(data, {**HELD, "probability": 0.5})
    assert 0 < sum(map(len, half.abnormal())) < len(data.calibration)
    with pytest.raises(UserError, match="no image was changed"):
        HeldOut(data, {**HELD, "probability": 0.0})


def test_one_batch_of_images_is_in_memory_at_a_time(data: AnomalyData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "batch_size", 1)
    given: list[weakref.ref[torch.Tensor]] = []

    class Counting(Roughness):
        def score(self, images: torch.Tensor) -> MethodOutput:
            given.append(weakref.ref(images))
            assert sum(reference() is not None for reference in given) <= 2
            return super().score(images)

    HeldOut(data, HELD).auroc(Counting())
    assert len(given) >= 2 * len(data.calibration) > 2


def test_a_score_that_is_no_number_gives_no_value(data: AnomalyData) -> None:
    class Broken(Roughness):
        def score(self, images: torch.Tensor) -> MethodOutput:
            scored = super().score(images)
            scored.parts["roughness"] = scored.parts["roughness"] * torch.nan
            return scored

    value = HeldOut(data, HELD).auroc(Broken())
    assert value != value
