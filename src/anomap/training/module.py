"""The one LightningModule: two toggled optimiser steps around any adversarial method, nothing of the method itself."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from anomap.detection.tiled import measured
from anomap.errors import UserError
from anomap.objectives.base import AdversarialObjective, Losses
from anomap.training import steps
from anomap.training.ema import MovingAverage
from anomap.training.optimizer import make_optimizer, make_scheduler

ADAM = {"_target_": "torch.optim.Adam", "betas": [0.5, 0.999]}


class TrainingDiverged(UserError):
    """A loss was not a finite number; the last good checkpoint is kept."""


class AdversarialTraining(pl.LightningModule):
    """Generator and discriminator under manual optimisation, with averaged weights that score.

    Args:
        objective: the method: networks, losses, score.
        lr_generator, lr_discriminator: learning rates.
        ema_decay: of the averaged weights, see `MovingAverage`.
        algorithm: of the optimisers, see `make_optimizer`.
        schedule: of the learning rates, see `make_scheduler`.
        interval: `step` or `epoch`, when the schedule moves on; UserError for anything else.
        seed: of the random numbers that a method draws in a step.
    """

    def __init__(
        self,
        objective: AdversarialObjective,
        lr_generator: float,
        lr_discriminator: float,
        ema_decay: float,
        algorithm: Mapping[str, Any] = ADAM,
        schedule: str | Mapping[str, Any] = "constant",
        interval: str = "step",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if interval not in ("step", "epoch"):
            raise UserError(f"model.optimizer.interval={interval}: use step or epoch")
        self.automatic_optimization = False
        self.objective = objective
        self.ema = MovingAverage(objective, ema_decay)
        self.learning_rates = {"generator": lr_generator, "discriminator": lr_discriminator}
        self.algorithm, self.schedule, self.interval = algorithm, schedule, interval
        self.seed = seed
        self._summed = 0  # steps since the last pause

    def configure_optimizers(self) -> Any:
        """One optimiser with its schedule for the generator, and one for the discriminator."""
        length = steps.total(self.trainer)
        if self.interval == "epoch":
            length = math.ceil(length / steps.batches(self.trainer))
        optimizers, schedulers = [], []
        for name, rate in self.learning_rates.items():
            network = getattr(self.objective, name)
            optimizers.append(make_optimizer(self.algorithm, network.parameters(), rate))
            scheduler = make_scheduler(self.schedule, optimizers[-1], length)
            schedulers.append({"scheduler": scheduler, "name": f"learning rate/{name}", "interval": self.interval})
        return optimizers, schedulers

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """One generator pass, one discriminator step on its detached result, one generator step."""
        # noise is a function of its place in the run, not of what was drawn before: a resumed run draws the same
        place = [self.seed, self.current_epoch, batch_index, self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
        generator_optimizer, discriminator_optimizer = self.optimizers()  # pyright: ignore[reportGeneralTypeIssues]
        step = self.objective.generate(batch)  # before any toggle, or its graph would hold no generator gradient
        with self.toggled_optimizer(discriminator_optimizer):
            discriminator = self.objective.discriminator_losses(step.detached())
            self._descend(discriminator_optimizer, discriminator["loss"])
        with self.toggled_optimizer(generator_optimizer):
            generator = self.objective.generator_losses(step)
            self._descend(generator_optimizer, generator["loss"])
        self.ema.update()
        self._remember(generator, discriminator)
        self._move_schedules("step")

    def _descend(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def _move_schedules(self, interval: str) -> None:
        if interval == self.interval:
            for scheduler in self.lr_schedulers():  # pyright: ignore[reportGeneralTypeIssues, reportOptionalIterable]
                scheduler.step()

    # --- losses: summed on the device, read in pauses ---

    def _remember(self, generator: Losses, discriminator: Losses) -> None:
        """Add up without waiting for the device."""
        named = {"generator loss/total": generator["loss"], "discriminator loss/total": discriminator["loss"]}
        for network, losses in (("generator", generator), ("discriminator", discriminator)):
            named |= {f"{network} loss/{name}": value for name, value in losses.items() if name != "loss"}
        terms = torch.stack([value.detach().float() for value in named.values()])
        if not self._summed:
            self._names, self._sums = list(named), torch.zeros_like(terms)
            self._finite = torch.zeros_like(terms[0], dtype=torch.int32)  # steps until a loss was no finite number
        self._sums += terms
        self._finite += torch.isfinite(self._sums[:2]).all()  # once it is not, no later sum is
        self._summed += 1

    def mean_losses(self) -> dict[str, float]:
        """Means of the losses and their terms since the last pause; waits for the device."""
        if not self._summed:
            return {}
        means = (self._sums / self._summed).tolist()
        return dict(zip(self._names, means, strict=True))

    def on_train_epoch_end(self) -> None:
        """In a pause, log the losses, unless the training diverged."""
        self._move_schedules("epoch")
        if steps.pauses(self.trainer):
            self.check_finite()
            self.log_dict({**self.mean_losses(), "step": float(steps.done(self.trainer))}, sync_dist=True)
            self._summed = 0

    def check_finite(self) -> None:
        """Raise TrainingDiverged, so that nothing is saved, if a loss since the last pause or a weight is no number."""
        saved = steps.done(self.trainer) - self._summed  # steps
        weights = [tensor for tensor in self.objective.state_dict().values() if tensor.is_floating_point()]
        if self._summed and (finite := int(self._finite)) < self._summed:
            epoch, step = divmod(saved + finite, steps.batches(self.trainer))
            found = f"epoch {epoch}, step {step}: the loss"
        elif not torch.stack([torch.isfinite(tensor).all() for tensor in weights]).all():  # spoilt by the last step
            found = f"epoch {self.current_epoch}, the end: a weight"
        else:
            return
        raise TrainingDiverged(
            f"training diverged at {found} is not a finite number; lower model.optimizer.lr_generator and "
            f"lr_discriminator; {'the last good checkpoint is kept' if saved > 0 else 'nothing was saved'}"
        )

    def validation_step(self, batch: dict[str, Tensor], *_: Any) -> Any:
        """Score with the averaged weights: a `MethodOutput`, which callbacks collect."""
        tiling = self.trainer.datamodule.data.tiling  # pyright: ignore[reportAttributeAccessIssue]
        return measured(self.ema.objective, batch["image"], tiling)
