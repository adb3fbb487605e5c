"""What is watched while a model trains: it scores with the averaged weights after an epoch. Nothing is chosen by it."""

import logging
from contextlib import ExitStack
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from anomap.data.anomaly_data import AnomalyData
from anomap.data.imageset import to_float
from anomap.detection.gathered import GatheredRows
from anomap.detection.metrics import auroc
from anomap.detection.scoring import ScoringModel
from anomap.objectives.base import AdversarialObjective, Objective
from anomap.training import steps
from anomap.training.clean import CleanBatches
from anomap.training.distributions import log_distributions
from anomap.training.examples import Examples
from anomap.training.norms import settled_norms

CALIBRATION, TEST = 0, 1  # the two validation loaders of `AnomalyDataModule`
AUROC = "AUROC/test (monitoring)"  # capitals come first in TensorBoard
CONTRAST = "reconstruction/contrast (monitoring)"
MIN_CONTRAST = 0.05  # of the images': a reconstruction with less is a constant, as black as in a collapsed GAN

log = logging.getLogger(__name__)


class Monitoring(pl.Callback):
    """Scores calibration and test images after an epoch, and logs on the axis of optimiser steps.

    `AUROC/test (monitoring)` uses test labels, so it must not choose anything; the weights that count are always the last.
    `reconstruction/contrast (monitoring)` is the reconstructions' standard deviation over pixels, divided by that of the
    images (calibration normals). Near 0 the generator has collapsed to a constant; a warning says so.
    TensorBoard also gets the distributions of the scores and the example images.
    What batches leave stays on the device until the end of the epoch, so that none waits for it.

    Args:
        objective: with the averaged weights.
        data: whose images are scored and shown.
        quantile: of this epoch's calibration normals, which sets the threshold of the decisions shown.
    """

    def __init__(self, objective: Objective, data: AnomalyData, quantile: float) -> None:
        self.objective, self.data = objective, data
        self.rule = {"strategy": "quantile", "quantile": quantile}
        self.examples = Examples(data)

    def state_dict(self) -> dict[str, Any]:
        return {"examples": self.examples.chosen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.examples.chosen = state_dict["examples"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget what an earlier epoch logged: this one may not be monitored (`check_val_every_n_epoch`)."""
        for name in (AUROC, CONTRAST):
            trainer.callback_metrics.pop(name, None)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._detector = ScoringModel(self.objective, self.data.image_size, self.data.tiling)
        count = len(self._detector.part_names)
        # `calibration_rows` and whether the image sets the scale; parts, label and index; of a reconstruction and its image
        columns = (count + 3, count + 2, 2)
        self._norms = ExitStack()
        if isinstance(self.objective, AdversarialObjective) and not self.objective.uses_augmentation:
            clean = CleanBatches(self.data, pl_module.device)
            self._norms.enter_context(settled_norms(self.objective, clean))
        self._calibration, self._test, self._contrast = (GatheredRows(c).to(pl_module.device) for c in columns)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the numbers that scores are made of."""
        if dataloader_idx == CALIBRATION:
            rows = self._detector.calibration_rows(outputs)
            self._calibration.update(torch.cat([rows, batch["scaling"].to(rows)[:, None]], 1))
            if outputs.reconstruction is not None:
                pictures = (outputs.reconstruction, batch["image"])
                contrasts = [_unit(images).flatten(2).std(2).mean(1).cpu() for images in pictures]
                self._contrast.update(torch.stack(contrasts, 1))
        else:
            parts = self._detector.parts(outputs)
            known = [batch[name].to(parts)[:, None] for name in ("label", "index")]
            self._test.update(torch.cat([parts, *known], 1))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log everything."""
        # every process takes part in each of these, whatever it has scored
        calibration, test, contrast = (table.gathered() for table in (self._calibration, self._test, self._contrast))
        step = steps.done(trainer)
        found = self._watch_contrast(pl_module.current_epoch, *contrast.mean(0).tolist()) if len(contrast) else {}
        scores = self._scores(calibration, test)
        labels, index = test[:, -2].long().numpy(), test[:, -1].long().numpy()
        value = None if scores is None else auroc(scores.double().numpy(), labels)
        if value is not None:
            found[AUROC] = value
        if found:
            pl_module.log_dict({**found, "step": float(step)}, sync_dist=True)  # `step` replaces Lightning's `epoch`
        if scores is None or not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                writer = logger.experiment
                log_distributions(writer, step, self._detector.calibration.scores.numpy(), scores.numpy(), labels)
                self.examples.choose(index, scores.numpy(), labels, self._detector.threshold)
                self.examples.log(writer, step, self._detector, pl_module.device)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._norms.close()

    def _scores(self, calibration: Tensor, test: Tensor) -> Tensor | None:
        """Calibrate the detector, and score the test images (N,) as it will at the end; None unless all is finite."""
        rows, scaling = calibration[:, :-1], calibration[:, -1] > 0
        self._detector.weigh_parts(len(self.data.clean))
        # `trainer.limit_val_batches` may leave none to set the threshold
        self._detector.learn_calibration(rows, scaling & ~scaling.all())
        scores = self._detector.standardiser(test[:, :-2])
        if not all(torch.isfinite(t).all() for t in (self._detector.calibration.scores, rows[:, -2:], scores)):
            return None
        self._detector.set_threshold(self.rule)
        return scores

    def _watch_contrast(self, epoch: int, made: float, given: float) -> dict[str, float]:
        """How much contrast the reconstructions kept of the images'; warns when next to nothing is left."""
        if given == 0:  # blank images are reconstructed as blank
            return {}
        if made < MIN_CONTRAST * given:
            log.warning(
                "epoch %d: the reconstructions are nearly constant (%.1f %% of the images' contrast): the generator may "
                "have collapsed; lower model.optimizer.lr_generator, or train longer",
                *(epoch, 100 * made / given),
            )
        return {CONTRAST: made / given}


def _unit(images: Tensor) -> Tensor:
    """Images in [0, 1], of which photographs that are tiled come as bytes."""
    return images.float() if images.is_floating_point() else to_float(images)
