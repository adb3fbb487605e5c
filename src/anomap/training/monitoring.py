"""What is watched while a model trains: AUROC, score histograms, attention maps. Watched only: nothing is selected by it."""

import logging
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torchvision.utils import make_grid

from anomap.detection.metrics import auroc
from anomap.detection.standardise import Standardiser
from anomap.objectives.base import Objective, Scored
from anomap.training.processes import from_all

CALIBRATION, TEST = 0, 1  # the two validation loaders of the datamodule
MIN_CONTRAST = 0.05  # of the images': a reconstruction with less is a constant, as black as in a collapsed GAN

log = logging.getLogger(__name__)


class Monitoring(pl.Callback):
    """Scores calibration and test images with the averaged weights after an epoch, and logs.

    `monitor/reconstruction_contrast` is the reconstructions' standard deviation over pixels, divided by that of the images
    (calibration normals); near 0 the generator has collapsed to a constant, which is also warned of.

    `monitor/test_auroc` uses test labels, so it must not choose anything; the weights that count are always the last.

    Args:
        images: how many images to show with their maps (half normal, half abnormal).
    """

    def __init__(self, images: int = 8) -> None:
        self.images = images

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the last epoch."""
        self._parts: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._labels: list[Tensor] = []
        self._scaling: list[Tensor] = []  # which calibration images set the scale of the score's parts
        self._shown: dict[int, dict[str, Tensor]] = {}
        self._contrast: list[Tensor] = []  # (2, B): of the reconstructions and of the images

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: dict[str, Tensor],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        names = _objective(pl_module).part_names
        self._parts[dataloader_idx].append(torch.stack([outputs.parts[name].float() for name in names], 1).cpu())
        if dataloader_idx == CALIBRATION:
            self._scaling.append(batch["scaling"].cpu())
        if dataloader_idx == CALIBRATION and outputs.reconstruction is not None:
            pictures = torch.stack([outputs.reconstruction.float(), batch["image"].float()])
            self._contrast.append(pictures.flatten(3).std(3).mean(2).cpu())
        if dataloader_idx == TEST:
            self._labels.append(batch["label"].cpu())
            for label in (0, 1):
                self._collect_shown(label, outputs, batch)

    def _collect_shown(self, label: int, scored: Scored, batch: dict[str, Tensor]) -> None:
        """Keep the first few images of each label; the same in every epoch."""
        if label in self._shown or not (batch["label"] == label).any():
            return
        chosen = (batch["label"] == label).nonzero().flatten()[: self.images // 2]
        maps = scored.attention_map if scored.attention_map is not None else scored.anomaly_map
        columns = {"image": batch["image"], "reconstruction": scored.reconstruction, "map": maps}
        self._shown[label] = {name: shown[chosen].cpu() for name, shown in columns.items() if shown is not None}

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log AUROC, score histograms and images, all on the axis of epochs."""
        if trainer.sanity_checking:
            return
        self._gather()
        if self._contrast:
            self._watch_contrast(pl_module)
        if not self._labels:
            return
        calibration, test = (torch.cat(parts) for parts in self._parts)
        standardiser = Standardiser(test.shape[1])
        standardiser.fit(calibration[torch.cat(self._scaling)])
        scores, labels = standardiser(test), torch.cat(self._labels)
        value = auroc(scores.double().numpy(), labels.numpy()) if torch.isfinite(scores).all() else None
        if value is not None:
            pl_module.log("monitor/test_auroc", value, prog_bar=True, sync_dist=True)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for name, values in (
                    ("calibration_normal", standardiser(calibration)),
                    ("test_normal", scores[labels == 0]),
                    ("test_abnormal", scores[labels == 1]),
                ):
                    if values.numel() and torch.isfinite(values).all():
                        logger.experiment.add_histogram(f"scores/{name}", values, trainer.current_epoch)
                self._log_images(logger, pl_module, trainer.current_epoch)

    def _gather(self) -> None:
        """What every process has scored, in each of them; the images to be shown are those of the first that has them."""
        held = from_all((self._parts, self._labels, self._contrast, self._shown, self._scaling))
        if len(held) > 1:
            self._parts = ([p for h in held for p in h[0][0]], [p for h in held for p in h[0][1]])
            self._labels, self._contrast = [x for h in held for x in h[1]], [x for h in held for x in h[2]]
            self._scaling = [x for h in held for x in h[4]]
            self._shown = {label: shown for h in reversed(held) for label, shown in h[3].items()}

    def _watch_contrast(self, pl_module: pl.LightningModule) -> None:
        """Log how much contrast the reconstructions kept; warn when next to nothing is left."""
        made, given = torch.cat(self._contrast, dim=1).mean(1).tolist()
        if given == 0:  # blank images are reconstructed as blank
            return
        pl_module.log("monitor/reconstruction_contrast", made / given, sync_dist=True)
        if made < MIN_CONTRAST * given:
            log.warning(
                "epoch %d: the reconstructions are nearly constant (%.1f %% of the images' contrast): the generator may "
                "have collapsed; lower model.optimizer.lr_generator, or train longer",
                pl_module.current_epoch,
                100 * made / given,
            )

    def _log_images(self, logger: TensorBoardLogger, pl_module: pl.LightningModule, epoch: int) -> None:
        """Columns: image, reconstruction if the method makes one, map. Attention maps go from 0 to 1, whatever the image."""
        names = next(iter(self._shown.values())).keys()
        columns = {name: _coloured(torch.cat([shown[name] for shown in self._shown.values()])) for name in names}
        side = columns["image"].shape[-2:]
        if columns["map"].shape[-2:] != side:
            columns["map"] = torch.nn.functional.interpolate(columns["map"], side)
        rows = torch.stack(list(columns.values()), dim=1).flatten(0, 1).clamp(0, 1)
        logger.experiment.add_image(f"attention/{'_'.join(names)}", make_grid(rows, nrow=2 * len(names)), epoch)


def _coloured(pictures: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 3, H, W)."""
    return pictures.expand(-1, 3, -1, -1) if pictures.shape[1] == 1 else pictures[:, :3]


def _objective(module: pl.LightningModule) -> Objective:
    return module.objective  # pyright: ignore[reportReturnType]
