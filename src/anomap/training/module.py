"""The one LightningModule: two toggled optimiser steps around any adversarial method, and nothing of the method itself."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from anomap.errors import UserError
from anomap.objectives.base import AdversarialObjective
from anomap.training.ema import MovingAverage
from anomap.training.optimizer import ChannelsLastAdam
from anomap.training.schedule import learning_rate_factor


class TrainingDiverged(UserError):
    """A loss was not a finite number; the last good checkpoint is kept."""


class AdversarialTraining(pl.LightningModule):
    """Generator and discriminator under manual optimisation, with averaged weights that score.

    Args:
        objective: the method: networks, losses, score.
        lr_generator: Adam's learning rate for the generator.
        lr_discriminator: the same for the discriminator.
        betas: Adam's momenta.
        schedule: `constant` or `cosine` (to zero over the run).
        ema_decay: of the averaged weights.
        seed: of the random numbers that a method draws in a step.
    """

    def __init__(
        self,
        objective: AdversarialObjective,
        lr_generator: float,
        lr_discriminator: float,
        betas: tuple[float, float],
        schedule: str,
        ema_decay: float,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.objective = objective
        self.ema = MovingAverage(objective, ema_decay)
        self.lr_generator, self.lr_discriminator = lr_generator, lr_discriminator
        self.betas = (betas[0], betas[1])
        self.schedule = schedule
        self.seed = seed
        self._bad_step: Tensor | None = (
            None  # first step of the epoch with a loss that is no number; stays on the device
        )

    def configure_optimizers(self) -> Any:
        """Adam for the generator and for the discriminator, each with its schedule."""
        fused = self.device.type in ("cpu", "cuda")
        optimizers = [
            ChannelsLastAdam([p for p in net.parameters() if p.requires_grad], lr=lr, betas=self.betas, fused=fused)
            for net, lr in (
                (self.objective.generator, self.lr_generator),
                (self.objective.discriminator, self.lr_discriminator),
            )
        ]
        epochs = self.trainer.max_epochs or 1
        factor = learning_rate_factor(self.schedule, epochs)
        schedulers = [
            {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, factor), "name": f"lr/{name}"}
            for optimizer, name in zip(optimizers, ("generator", "discriminator"), strict=True)
        ]
        return optimizers, schedulers

    def training_step(self, batch: dict[str, Tensor], batch_index: int) -> None:
        """One generator pass, one discriminator step on its detached result, one generator step."""
        # noise is a function of its place in the run, not of what was drawn before: a resumed run draws the same
        place = [self.seed, self.current_epoch, batch_index, self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))
        generator_optimizer, discriminator_optimizer = self.optimizers()  # pyright: ignore[reportGeneralTypeIssues]
        step = self.objective.generate(batch)  # before any toggle, or its graph would hold no generator gradient
        losses = {}
        with self.toggled_optimizer(discriminator_optimizer):
            losses["discriminator"] = self.objective.discriminator_losses(step.detached())
            self._descend(discriminator_optimizer, losses["discriminator"]["loss"])
        with self.toggled_optimizer(generator_optimizer):
            losses["generator"] = self.objective.generator_losses(step)
            self._descend(generator_optimizer, losses["generator"]["loss"])
        self.ema.update()
        self._watch(losses["generator"]["loss"] + losses["discriminator"]["loss"], batch_index)
        for network, values in losses.items():
            for name, value in values.items():
                self.log(
                    f"train/{network}_{name}",
                    value.detach(),
                    on_step=False,
                    on_epoch=True,
                    sync_dist=True,
                    prog_bar=name == "loss",
                )

    def _descend(self, optimizer: Any, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def _watch(self, loss: Tensor, batch_index: int) -> None:
        """Remember the first step whose loss is no number, without waiting for the device."""
        if self._bad_step is None or batch_index == 0:
            self._bad_step = torch.full((), torch.inf, device=loss.device)
        here = torch.full_like(self._bad_step, batch_index)
        self._bad_step = torch.where(torch.isfinite(loss.detach()), self._bad_step, torch.minimum(self._bad_step, here))

    def on_train_epoch_end(self) -> None:
        """Step the schedules."""
        self.check_finite()
        for scheduler in self.lr_schedulers():  # pyright: ignore[reportGeneralTypeIssues, reportOptionalIterable]
            scheduler.step()

    def check_finite(self) -> None:
        """Stop before a checkpoint could be written with weights that are no numbers.

        Raises:
            TrainingDiverged: a loss of this epoch, or a weight, is not a finite number.
        """
        if self._bad_step is not None and torch.isfinite(self._bad_step):
            self._diverged(f"step {int(self._bad_step)}: the loss is not a finite number")
        # the epoch's last step may have spoilt the weights that no loss has seen yet
        weights = [tensor for tensor in self.objective.state_dict().values() if tensor.is_floating_point()]
        if not all(torch.stack([torch.isfinite(tensor).all() for tensor in weights]).tolist()):
            self._diverged("the end: a weight is not a finite number")

    def _diverged(self, where: str) -> None:
        kept = "the last good checkpoint is kept" if self.current_epoch else "nothing was saved"
        raise TrainingDiverged(
            f"training diverged at epoch {self.current_epoch}, {where}; "
            f"lower model.optimizer.lr_generator and lr_discriminator; {kept}"
        )

    def validation_step(self, batch: dict[str, Tensor], batch_index: int, dataloader_idx: int = 0) -> Any:
        """Score with the averaged weights: a `Scored`, which callbacks collect."""
        del batch_index, dataloader_idx
        return self.ema.objective.score(batch["image"])
