"""What is watched while a model trains: AUROC, score histograms, attention maps. Nothing is chosen by it."""

import logging
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torchvision.utils import make_grid

from anomap.detection.gathered import GatheredRows, RankingMetric
from anomap.detection.metrics import auroc
from anomap.detection.standardise import Standardiser
from anomap.objectives.base import MethodOutput

CALIBRATION, TEST = 0, 1  # the two validation loaders of the datamodule
IMAGES = 8  # shown with their maps, half normal, half abnormal, out of those that rank 0 scores
MIN_CONTRAST = 0.05  # of the images': a reconstruction with less is a constant, as black as in a collapsed GAN

log = logging.getLogger(__name__)


class Monitoring(pl.Callback):
    """Scores calibration and test images with the averaged weights after an epoch, and logs.

    `monitor/reconstruction_contrast` is the reconstructions' standard deviation over pixels, divided by that of the
    images (calibration normals). Near 0 the generator has collapsed to a constant; a warning says so.
    `monitor/test_auroc` uses test labels, so it must not choose anything; the weights that count are always the last.
    What batches leave stays on the device until the end of the epoch, so that none waits for it.
    """

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget what an earlier epoch logged: this one may not be monitored (`check_val_every_n_epoch`)."""
        for name in [name for name in trainer.callback_metrics if name.startswith("monitor/")]:
            del trainer.callback_metrics[name]

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        count = len(pl_module.objective.part_names)
        # of the calibration images the parts, and whether they set the parts' scale
        self._calibration = GatheredRows(count + 1).to(pl_module.device)
        self._test = RankingMetric(count, dtype=torch.float32).to(pl_module.device)
        self._contrast = GatheredRows(2).to(pl_module.device)  # of each reconstruction and its image
        self._to_show = self._choose(trainer)
        self._shown: list[dict[str, Tensor]] = []

    def _choose(self, trainer: pl.Trainer) -> np.ndarray:
        """Indices of this process's test images to show: the first of each label, the same in every epoch."""
        loaders: Any = trainer.val_dataloaders
        tested = isinstance(loaders, list) and len(loaders) > TEST  # a folder with train/ alone has no test set
        logged = any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers)
        if not (tested and logged and trainer.is_global_zero):
            return np.empty(0, np.int64)
        index = np.concatenate([np.empty(0, np.int64), *loaders[TEST].sampler])
        labels = loaders[TEST].dataset.labels[index]
        return np.concatenate([index[labels == label][: IMAGES // 2] for label in (0, 1)])

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the parts of the scores, and the images to be shown."""
        parts = torch.stack([outputs.parts[name].float() for name in pl_module.objective.part_names], 1)
        if dataloader_idx == CALIBRATION:
            self._calibration.update(torch.cat([parts, batch["scaling"].to(parts)[:, None]], 1))
            if outputs.reconstruction is not None:
                pictures = (outputs.reconstruction, batch["image"])
                contrasts = [images.float().flatten(2).std(2).mean(1) for images in pictures]
                self._contrast.update(torch.stack(contrasts, 1))
        else:
            self._test.update(parts, batch["label"])
            if len(self._to_show):
                self._keep_shown(outputs, batch["image"], batch["index"])

    def _keep_shown(self, output: MethodOutput, images: Tensor, index: Tensor) -> None:
        chosen = np.flatnonzero(np.isin(index, self._to_show)).tolist()
        if chosen:
            maps = output.attention_map if output.attention_map is not None else output.anomaly_map
            columns = {"image": images, "reconstruction": output.reconstruction, "map": maps}
            self._shown.append({name: shown[chosen] for name, shown in columns.items() if shown is not None})

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log AUROC, score histograms and images, all on the axis of epochs."""
        # every process takes part in each of these, whatever it has scored
        calibration, contrast = self._calibration.gathered(), self._contrast.gathered()
        parts, labels = self._test.scores_and_labels()
        if len(contrast):
            self._watch_contrast(pl_module, *contrast.mean(0).tolist())
        if not len(labels):
            return
        standardiser = Standardiser(parts.shape[1])
        calibration, scaling = calibration[:, :-1], calibration[:, -1] > 0
        standardiser.fit(calibration[scaling])
        scores = standardiser(parts)
        value = auroc(scores.double().numpy(), labels.numpy()) if torch.isfinite(scores).all() else None
        if value is not None:
            pl_module.log("monitor/test_auroc", value, prog_bar=True, sync_dist=True)
        histograms = {
            "calibration_normal": standardiser(calibration),
            "test_normal": scores[labels == 0],
            "test_abnormal": scores[labels == 1],
        }
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for name, values in histograms.items():
                    if values.numel() and torch.isfinite(values).all():
                        logger.experiment.add_histogram(f"scores/{name}", values, trainer.current_epoch)
                self._log_images(logger, trainer.current_epoch)

    def _watch_contrast(self, pl_module: pl.LightningModule, made: float, given: float) -> None:
        """Log how much contrast the reconstructions kept of the images'; warn when next to nothing is left."""
        if given == 0:  # blank images are reconstructed as blank
            return
        pl_module.log("monitor/reconstruction_contrast", made / given, sync_dist=True)
        if made < MIN_CONTRAST * given:
            log.warning(
                "epoch %d: the reconstructions are nearly constant (%.1f %% of the images' contrast): the generator may "
                "have collapsed; lower model.optimizer.lr_generator, or train longer",
                *(pl_module.current_epoch, 100 * made / given),
            )

    def _log_images(self, logger: TensorBoardLogger, epoch: int) -> None:
        """Columns: image, reconstruction if there is one, map. Attention maps go from 0 to 1, whatever the image."""
        if not self._shown:
            return
        names = self._shown[0].keys()
        columns = {name: _coloured(torch.cat([shown[name] for shown in self._shown]).float().cpu()) for name in names}
        columns["map"] = torch.nn.functional.interpolate(columns["map"], columns["image"].shape[-2:])
        rows = torch.stack(list(columns.values()), dim=1).flatten(0, 1).clamp(0, 1)
        logger.experiment.add_image(f"attention/{'_'.join(names)}", make_grid(rows, nrow=2 * len(names)), epoch)


def _coloured(pictures: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 3, H, W)."""
    return pictures.expand(-1, 3, -1, -1) if pictures.shape[1] == 1 else pictures[:, :3]
