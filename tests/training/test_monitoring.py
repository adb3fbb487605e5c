"""What is logged while training, above all the alarm for a constant output."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from anomap.objectives.base import MethodOutput
from anomap.training.monitoring import AUROC, CONTRAST, Monitoring
from tests import tiny

OBJECTIVE: Any = SimpleNamespace(part_names=("error",), part_weights={}, minimum_images={}, part_shares=dict)
DATA: Any = SimpleNamespace(image_size=(8, 8), train=range(20), clean=range(20), tiling=None)
SCALING = torch.ones(16, dtype=torch.bool)  # which images set the scale of the score's parts


class Module:
    """As much of a LightningModule as the callback sees."""

    def __init__(self) -> None:
        self.logged: dict[str, float] = {}
        self.current_epoch = 4
        self.device = torch.device("cpu")

    def log_dict(self, values: dict[str, float], **_: Any) -> None:
        self.logged |= values


def scored(images: Tensor, error: Tensor, reconstruct: Any = lambda x: x) -> MethodOutput:
    return MethodOutput({"error": error}, images[:, :1], reconstruction=reconstruct(images))


def begin() -> tuple[Monitoring, Any, Any]:
    """The callback at the start of a validation, a trainer and a module."""
    trainer = SimpleNamespace(loggers=[], global_step=60, is_global_zero=True)
    callback, module = Monitoring(OBJECTIVE, DATA, 0.95), Module()
    callback.on_validation_epoch_start(trainer, module)  # type: ignore[arg-type]
    return callback, trainer, module


def watched(reconstruct: Any, images: Tensor, scores: Tensor | None = None) -> dict[str, float]:
    """What the callback logs of 4 calibration images and of the test images (second half abnormal)."""
    callback, trainer, module = begin()
    labels = (torch.arange(len(images)) >= len(images) // 2).long()
    for loader, part in enumerate((images[:4], images)):
        for start in range(0, len(part), 3):
            batch = {"image": part[start : start + 3], "label": labels[start : start + 3]}
            batch["index"] = torch.arange(start, start + len(batch["image"]))
            error = batch["image"].flatten(1).mean(1) if scores is None else scores[start : start + len(batch["image"])]
            batch["scaling"] = torch.ones(len(error), dtype=torch.bool)
            outputs = scored(batch["image"], error, reconstruct)
            callback.on_validation_batch_end(trainer, module, outputs, batch, 0, loader)
    callback.on_validation_epoch_end(trainer, module)
    return module.logged


def test_a_constant_output_sets_off_the_alarm(caplog: pytest.LogCaptureFixture) -> None:
    images = tiny.textures(8)
    with caplog.at_level(logging.WARNING):
        logged = watched(torch.zeros_like, images)
    assert logged[CONTRAST] == 0
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
    assert logged[CONTRAST] == pytest.approx(contrast, rel=1e-4)
    assert not caplog.records


def test_blank_images_and_methods_without_a_reconstruction_are_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert CONTRAST not in watched(torch.zeros_like, torch.zeros(8, 1, 32, 32))
        assert CONTRAST not in watched(lambda x: None, tiny.textures(8))
    assert not caplog.records


def test_the_monitored_auroc_is_that_of_all_test_images() -> None:
    scores = torch.tensor([0.0, 1.0, 2.0, 5.0, 3.0, 4.0, 6.0, 7.0])  # the normal with 5 is above 2 of 4 abnormals
    logged = watched(lambda x: x, tiny.textures(8), scores)
    assert logged[AUROC] == pytest.approx(14 / 16)
    assert logged["step"] == 30  # the axis: both optimisers have made so many


def test_scores_that_are_no_numbers_are_not_shown() -> None:
    assert AUROC not in watched(lambda x: x, tiny.textures(8), torch.tensor([0.0] * 7 + [torch.nan]))
    assert AUROC not in watched(lambda x: x, tiny.textures(8), torch.tensor([torch.inf] + [0.0] * 7))


def test_processes_see_what_all_have_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither process has both kinds of test images, the second not even a calibration image."""
    processes = []
    for calibration, test, label in (([0.0, 2.0, 4.0], [1.0, 3.0], 0), ([], [2.0, 5.0], 1)):
        callback, trainer, module = begin()
        for loader, errors in enumerate((calibration, test)):
            if errors:
                images, error = torch.rand(len(errors), 1, 8, 8), torch.tensor(errors)
                batch = {"image": images, "label": torch.full((len(errors),), label), "scaling": SCALING[: len(images)]}
                batch["index"] = torch.arange(len(images))
                callback.on_validation_batch_end(trainer, module, scored(images, error), batch, 0, loader)
        processes.append((callback, trainer, module))
    tables = ("_calibration", "_contrast", "_test")
    held = {name: [getattr(callback, name).table() for callback, *_ in processes] for name in tables}
    for callback, trainer, module in processes:
        for name in tables:
            metric = getattr(callback, name)
            metric.distributed_available_fn = lambda: True
            metric.dist_sync_fn = lambda _, group, name=name: held[name]
        callback.on_validation_epoch_end(trainer, module)
        assert module.logged[AUROC] == 3 / 4  # normals 1 and 3, abnormals 2 and 5
        assert module.logged[CONTRAST] == pytest.approx(1)


class HostReads(TorchDispatchMode):
    """Counts what makes the CPU wait for a device: `.item()`, `.tolist()`, comparisons in an `if`."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return func(*args, **(kwargs or {}))


def test_no_batch_waits_for_the_device() -> None:
    callback, trainer, module = begin()
    images = torch.rand(4, 1, 8, 8)
    batch = {"image": images, "label": torch.tensor([0, 1, 0, 1]), "scaling": SCALING[:4], "index": torch.arange(4)}
    with HostReads() as reads:
        for loader in (0, 1):
            callback.on_validation_batch_end(trainer, module, scored(images, torch.rand(4)), batch, 0, loader)
        assert reads.count == 0
        assert bool(images.any())  # the counter counts
    assert reads.count == 1


class Tiny(pl.LightningModule):
    """As much of a training as it takes to be monitored."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.seen: list[float | None] = []

    def configure_optimizers(self) -> None:
        return None

    def training_step(self, *_: Any) -> None:
        return None

    def validation_step(self, batch: dict[str, Tensor], *_: Any) -> Any:
        return scored(batch["image"], batch["error"])


class Listener(pl.Callback):
    """What a callback is told at the end of each epoch."""

    def __init__(self) -> None:
        self.told: list[float | None] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = trainer.callback_metrics.get(AUROC)
        self.told.append(None if value is None else float(value))


def test_an_epoch_without_monitoring_repeats_no_old_value(tmp_path: Path) -> None:
    batch = {
        "image": torch.rand(4, 1, 8, 8),
        "label": torch.tensor([0, 0, 1, 1]),
        "error": torch.arange(4.0),
        "index": torch.arange(4),
        "scaling": SCALING[:4],
    }
    listener = Listener()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=5,
        check_val_every_n_epoch=2,
        callbacks=[Monitoring(OBJECTIVE, DATA, 0.95), listener],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    loaders = [DataLoader([batch], batch_size=None) for _ in range(3)]  # type: ignore[arg-type]
    trainer.fit(Tiny(), loaders[0], loaders[1:])
    assert listener.told == [None, 1.0, None, 1.0, None]
