"""A method as `anomap-train` has it when training begins, and its batches already in memory."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from torch import Tensor

from anomap.config import build, config_dir, plain
from anomap.data.anomaly_data import AnomalyData
from anomap.data.build import build_data
from anomap.data.imageset import to_float
from anomap.data.sampler import TrainBatches
from anomap.data.settle import settle
from anomap.objectives.base import AdversarialObjective
from anomap.runs.folder import RunFolder
from anomap.training.clean import CleanBatches
from anomap.training.optimizer import make_optimizer
from anomap.training.train import train_stage
from benchmark.generated import write_data_set
from benchmark.timing import Timed

Batch = dict[str, Tensor]
MANY_IMAGES = 400  # of which a mixture has all its components


def composed(command: str, *overrides: str) -> dict[str, Any]:
    """The plain configuration of `anomap-<command> <overrides>`."""
    if GlobalHydra.instance().is_initialized():  # within a command
        return plain(compose(command, list(overrides)))
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return plain(compose(command, list(overrides)))


def train_config(*overrides: str) -> dict[str, Any]:
    """The plain configuration of `anomap-train <overrides>`, on the CPU."""
    return composed("train", "trainer.accelerator=cpu", *overrides)


@dataclass
class Setup:
    """A method ready to train.

    Attributes:
        config: of `anomap-train`.
        objective: untrained, closed-form statistics of its representation fitted.
        data: set up.
        batches: of training, augmented, in memory.
    """

    config: dict[str, Any]
    objective: AdversarialObjective
    data: AnomalyData
    batches: list[Batch]
    _fits: int = 0

    def framework(self, folder: Path) -> Timed:
        """As many steps through `anomap-train`'s own fit; logs and checkpoint are written below `folder`."""
        folder = folder / f"{self._fits}"
        self._fits += 1
        limits = {"limit_train_batches": len(self.batches), "limit_val_batches": 0, "max_epochs": 1}
        config = {"trainer": {**self.config["trainer"], **limits}, "logger": self.config["logger"]}
        done = train_stage(self.objective, self.data, self.config["model"], config, RunFolder(folder))
        return Timed(done.images, done.seconds)

    def bare(self) -> Callable[[], float]:
        """The same steps in a bare loop over the batches in memory."""
        return bare_loop(self.objective, self.batches, self.config["model"]["optimizer"])

    def release(self) -> None:
        """Let the augmented batches go."""
        self.batches.clear()


def prepare(
    steps: int,
    folder: Path,
    *overrides: str,
    seed: int = 0,
    images: int = 0,
    adapt: Callable[[Any], AdversarialObjective] = lambda method: method,
) -> Setup:
    """Make data, method and batches.

    Args:
        steps: batches that are kept.
        folder: where generated images go.
        overrides: of `anomap-train`; without `data=…`, generated grey images of the method's size.
        seed: of everything.
        images: generated to train on, at least.
        adapt: makes another method of the configured one.
    """
    generated = [] if any(line.startswith("data=") for line in overrides) else ["data=folder", "data.channels=1"]
    config = train_config(*generated, *(["data.root=nowhere"] if generated else []), f"seed={seed}", *overrides)
    if generated:
        side, batch = config["data"]["image_size"], config["data"]["batch_size"]
        count = round(max(steps * batch, images) / (1 - config["data"]["calibration_fraction"]) * 1.1) + 8
        root = folder / f"{side}px-{count}"
        config["data"]["root"] = str(root if root.is_dir() else write_data_set(root, count, 4, side, seed))
    config, found = settle(config)
    pl.seed_everything(seed, verbose=False)
    objective = adapt(build(config["model"]["objective"]))
    augmentation = build(config["augmentation"]) if objective.uses_augmentation else None
    data = build_data(config["data"], augmentation, seed, objective.stride)
    data.layout = found
    data.setup()
    stage1 = getattr(objective, "stage1", None)
    (stage1 or objective).learn_statistics(CleanBatches(data))  # of a second stage only what it trains on: no density
    objective.to(memory_format=torch.channels_last)
    order = TrainBatches(len(data.train), data.batch_size, seed)
    batches = [training_batch(data, index) for index in islice(order, steps)]
    return Setup(config, objective, data, batches)


def training_batch(data: AnomalyData, index: Any, epoch: int = 0) -> Batch:
    """A batch as a training step gets it."""
    batch = data.train[index]
    batch["image"] = to_float(batch["image"])
    if data.augmentation is not None:
        batch["augmented"], batch["mask"] = data.augmentation(batch["image"], batch["index"], epoch, data.train.images)
    return batch


def bare_loop(objective: AdversarialObjective, batches: list[Batch], optimizer: Any) -> Callable[[], float]:
    """A plain PyTorch loop: the same networks and losses, channels-last and with fused Adam as the framework has them."""
    networks = (
        (objective.generator, optimizer["lr_generator"]),
        (objective.discriminator, optimizer["lr_discriminator"]),
    )

    def run() -> float:
        objective.train()
        adam_g, adam_d = (make_optimizer(optimizer["algorithm"], network.parameters(), lr) for network, lr in networks)
        for batch in batches:
            step = objective.generate(batch)
            adam_d.zero_grad()
            objective.discriminator_losses(step.detached())["loss"].backward()
            adam_d.step()
            objective.discriminator.requires_grad_(False)
            adam_g.zero_grad()
            objective.generator_losses(step)["loss"].backward()
            adam_g.step()
            objective.discriminator.requires_grad_(True)
        return sum(len(batch["image"]) for batch in batches)

    return run
