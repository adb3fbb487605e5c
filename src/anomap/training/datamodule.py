"""The data of a run as Lightning wants it: what each process gets, and what happens to a batch on its way to the device."""

import pytorch_lightning as pl
import torch

from anomap.data.anomaly_data import ALONE, AnomalyData, Batch, Loader, Share
from anomap.data.imageset import to_float


class AnomalyDataModule(pl.LightningDataModule):
    """Serves the training batches of `data`, augmented, and the batches that are watched between epochs."""

    def __init__(self, data: AnomalyData) -> None:
        super().__init__()
        self.data = data

    def setup(self, stage: str | None = None) -> None:
        del stage
        self.data.setup()

    def train_dataloader(self) -> Loader:
        return self.data.train_dataloader(self._share())

    def val_dataloader(self) -> list[Loader]:
        return self.data.monitored_dataloaders(self._share())

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Everything but `index`, which is read on the CPU (fetched back from a GPU, it would make every step wait), and
        photographs that are yet to be cut.
        """
        kept = {"index", "image"} if self.data.uncut(batch) else {"index"}
        rest = {name: value for name, value in batch.items() if name not in kept}
        return batch | super().transfer_batch_to_device(rest, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Images to float [0, 1]; in training also `augmented` (B, C, H, W) and `mask` float (B, 1, H, W).

        Photographs that are tiled stay bytes: their tiles become floats when they are scored.
        """
        if self.data.uncut(batch):
            return batch
        batch = {**batch, "image": to_float(batch["image"])}
        if self.data.augmentation is not None and self.trainer is not None and self.trainer.training:
            given = batch["image"], batch["index"], self.trainer.current_epoch, self.data.clean.images
            batch["augmented"], batch["mask"] = self.data.augmentation(*given)
        return batch

    def _share(self) -> Share:
        trainer = self.trainer
        if trainer is None:
            return ALONE
        return Share(trainer.global_rank, trainer.world_size, trainer.strategy.root_device.type == "cuda")
