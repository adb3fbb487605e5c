"""What is logged while training, above all the alarm for a constant output."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from anomap.objectives.base import Scored
from anomap.training.monitoring import Monitoring
from tests import tiny


class Module:
    """As much of a LightningModule as the callback sees."""

    def __init__(self) -> None:
        self.objective = SimpleNamespace(part_names=("error",))
        self.logged: dict[str, float] = {}
        self.current_epoch = 4

    def log(self, name: str, value: float, **_: Any) -> None:
        self.logged[name] = value


def watched(reconstruct: Any, images: Tensor, scores: Tensor | None = None) -> dict[str, float]:
    """What the callback logs of 4 calibration images and of the test images (second half abnormal)."""
    trainer: Any = SimpleNamespace(sanity_checking=False, loggers=[], current_epoch=4)
    module: Any = Module()
    callback = Monitoring()
    callback.on_validation_epoch_start(trainer, module)
    labels = (torch.arange(len(images)) >= len(images) // 2).long()
    for loader, part in enumerate((images[:4], images)):
        for start in range(0, len(part), 3):
            batch = {"image": part[start : start + 3], "label": labels[start : start + 3]}
            error = batch["image"].flatten(1).mean(1) if scores is None else scores[start : start + 3]
            batch["scaling"] = torch.ones(len(error), dtype=torch.bool)
            made = reconstruct(batch["image"])
            callback.on_validation_batch_end(
                trainer, module, Scored({"error": error}, batch["image"][:, :1], reconstruction=made), batch, 0, loader
            )
    callback.on_validation_epoch_end(trainer, module)
    return module.logged


def test_a_constant_output_sets_off_the_alarm(caplog: pytest.LogCaptureFixture) -> None:
    images = tiny.textures(8)
    with caplog.at_level(logging.WARNING):
        logged = watched(torch.zeros_like, images)
    assert logged["monitor/reconstruction_contrast"] == 0
    (record,) = caplog.records
    assert "epoch 4" in record.message
    assert "nearly constant" in record.message
    # one grey level per image, different from image to image, is a constant output too
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        watched(lambda x: x.mean((1, 2, 3), keepdim=True).expand_as(x), images)
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("reconstruct", "contrast"), [(lambda x: x, 1.0), (lambda x: x * 0.3 + 0.1, 0.3)], ids=["perfect", "pale"]
)
def test_a_reconstruction_with_contrast_does_not(
    reconstruct: Any, contrast: float, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        logged = watched(reconstruct, tiny.textures(8))
    assert logged["monitor/reconstruction_contrast"] == pytest.approx(contrast, rel=1e-4)
    assert not caplog.records


def test_blank_images_and_methods_without_a_reconstruction_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert "monitor/reconstruction_contrast" not in watched(torch.zeros_like, torch.zeros(8, 1, 32, 32))
        assert "monitor/reconstruction_contrast" not in watched(lambda x: None, tiny.textures(8))
    assert not caplog.records


def test_the_monitored_auroc_is_that_of_all_test_images() -> None:
    scores = torch.tensor([0.0, 1.0, 2.0, 5.0, 3.0, 4.0, 6.0, 7.0])  # the normal with 5 is above 2 of 4 abnormals
    assert watched(lambda x: x, tiny.textures(8), scores)["monitor/test_auroc"] == pytest.approx(14 / 16)
