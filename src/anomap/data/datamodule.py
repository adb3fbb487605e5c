"""The LightningDataModule: training on normal images, calibration on held-out ones, mixed testing.

`setup()` finds, checks, splits and decodes everything once. The loaders then index whole batches out of one
uint8 array, with no per-sample Python.
"""

import functools
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from anomap.data.checks import check_channels, check_fraction, check_image_size, check_integer, check_intensity_range
from anomap.data.decode import FileStore, MemoryStore
from anomap.data.images import MAX_PIXELS, convert, load_image, load_mask
from anomap.data.imageset import Decoded, Donors, ImageSet, NewStore, decode_image_set, to_float
from anomap.data.layouts import Layout
from anomap.data.leakage import without_test_copies
from anomap.data.loader import TrainLoader
from anomap.data.sampler import SequentialBatches, TrainBatches
from anomap.data.samples import NORMAL, Sample, Scan, Splits, choose_scaling, split_calibration
from anomap.errors import UserError

log = logging.getLogger(__name__)

Augmentation = Callable[[Tensor, Tensor, int, Donors], tuple[Tensor, Tensor]]


class AnomalyDataModule(pl.LightningDataModule):
    """Serves a layout's images.

    Args:
        layout: where the images are and what they are.
        image_size: side of the square images in pixels, or [H, W]; multiples of `stride`.
        channels: 1 (grey) or 3 (colour).
        batch_size: images per batch; training batches are evened out, so most are a little smaller.
        augmentation: (float images (B, C, H, W) in [0, 1], index int64 (B,), epoch, donors) -> (augmented
            images, mask float (B, 1, H, W)); applied to training batches on the device. None = none.
        calibration_fraction: expected share of the normal images held out for calibration, in (0, 1).
        intensity_range: [low, high] in the files' units, mapped to [0, 1]; None = the file type's range.
        on_error: `raise`, or `skip` to warn and leave out unreadable files and training copies of test files.
        cache_mb: decoded images up to this size, in 10^6 bytes, stay in memory; above it they go to a
            temporary file mapped into memory.
        cache_dir: folder of that file; None = the system's temporary folder.
        max_pixels: refuse larger images by their header.
        monitor_images: calibration and test images at most that are scored between epochs, to be watched.
        num_workers: processes that make batches. 0 suits nearly always: a batch is one indexing of an array.
        seed: of the training order.
        stride: what the model needs the image size to be a multiple of, in pixels.

    Raises:
        UserError: an option is wrong; `setup()` raises it for what is wrong with the data.
    """

    def __init__(
        self,
        layout: Layout,
        image_size: int | Sequence[int],
        channels: int,
        batch_size: int,
        augmentation: Augmentation | None = None,
        calibration_fraction: float = 0.15,
        intensity_range: Sequence[float] | None = None,
        on_error: str = "raise",
        cache_mb: int = 2048,
        cache_dir: str | os.PathLike[str] | None = None,
        max_pixels: int = MAX_PIXELS,
        monitor_images: int = 400,
        num_workers: int = 0,
        seed: int = 0,
        stride: int = 1,
    ) -> None:
        super().__init__()
        if on_error not in ("raise", "skip"):
            raise UserError(f"data.on_error={on_error}: use raise or skip")
        self.layout = layout
        self.image_size = check_image_size(image_size, stride)
        self.channels = check_channels(channels)
        self.batch_size = check_integer("batch_size", batch_size, 1)
        self.augmentation = augmentation
        self.calibration_fraction = check_fraction("calibration_fraction", calibration_fraction)
        self.intensity_range = check_intensity_range(intensity_range)
        self.skip_unreadable = on_error == "skip"
        self.cache_mb = check_integer("cache_mb", cache_mb, 0)
        self.cache_dir = None if cache_dir is None else os.path.expanduser(cache_dir)
        self.max_pixels = check_integer("max_pixels", max_pixels, 1)
        self.monitor_images = check_integer("monitor_images", monitor_images, 1)
        self.num_workers = check_integer("num_workers", num_workers, 0)
        self.seed = seed
        self._same_content: dict[str, str] = {}
        self._ready = False

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How images are read: `load_image(path, **preprocessing)` reads one the same way."""
        return {
            "channels": self.channels,
            "size": self.image_size,
            "intensity_range": self.intensity_range,
            "max_pixels": self.max_pixels,
        }

    def setup(self, stage: str | None = None) -> None:
        """Find, check, split and decode all images; later calls do nothing.

        Sets `splits`, and `train`, `calibration`, `test` (`ImageSet`).

        Raises:
            UserError: something is wrong with the data; one line that names the file or folder.
        """
        if self._ready:
            return
        scan = self.layout.scan()
        splits = self._split(scan)
        lists = {"training": splits.train, "calibration": splits.calibration, "test": splits.test}
        store = self._store(lists.values())
        shape = (self.channels, *self.image_size)
        decode = self._decoder(scan)
        sets: dict[str, ImageSet] = {}
        for label, samples in lists.items():
            sets[label] = decode_image_set(samples, decode, shape, label, self.skip_unreadable, store)
            if samples and len(sets[label]) == 0:
                raise UserError(f"none of the {len(samples)} {label} images can be read: mend or replace them")
        self.train, self.calibration, self.test = sets["training"], sets["calibration"], sets["test"]
        self.calibration.scaling = choose_scaling(self.calibration.samples, self._same_content)
        self.splits = Splits(self.train.samples, self.calibration.samples, self.test.samples)
        self._ready = True
        log.info("data: %s", ", ".join(f"{count} {name[2:]}" for name, count in self.counts().items()))

    def counts(self) -> dict[str, int]:
        """Sizes of the sets, under their names in `metrics.json`."""
        normal = sum(sample.label == NORMAL for sample in self.splits.test)
        return {
            "n_train": len(self.splits.train),
            "n_calibration": len(self.splits.calibration),
            "n_test_normal": normal,
            "n_test_abnormal": len(self.splits.test) - normal,
        }

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Shuffled training batches; UserError when the data is a test set only."""
        if len(self.train) == 0:
            raise UserError(
                "no training images: data.normal_dir and data.abnormal_dir make a test set only; set data.root to train"
            )
        rank, world_size = self._rank()
        batches = TrainBatches(len(self.train), self.batch_size, self.seed, rank, world_size)
        return self._loader(self.train, batches, TrainLoader)

    def calibration_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """The calibration set in stored order; over all ranks every sample once."""
        return self._loader(self.calibration, SequentialBatches(len(self.calibration), self.batch_size, *self._rank()))

    def test_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """The test set in stored order; over all ranks every sample once."""
        return self._loader(self.test, SequentialBatches(len(self.test), self.batch_size, *self._rank()))

    def val_dataloader(self) -> list[DataLoader[dict[str, Tensor]]]:
        """[calibration, test], at most `monitor_images` of each, spread evenly; no second one without a test set."""
        return [
            self._loader(part, SequentialBatches(len(part), self.batch_size, *self._rank(), self.monitor_images))
            for part in (self.calibration, self.test)
            if len(part)
        ]

    def transfer_batch_to_device(
        self, batch: dict[str, Tensor], device: torch.device, dataloader_idx: int
    ) -> dict[str, Tensor]:
        """Everything but `index`, which is read here: fetched back from a GPU, it would make every step wait."""
        moved = super().transfer_batch_to_device(
            {name: value for name, value in batch.items() if name != "index"}, device, dataloader_idx
        )
        return {**moved, "index": batch["index"]} if "index" in batch else moved

    def on_after_batch_transfer(self, batch: dict[str, Tensor], dataloader_idx: int) -> dict[str, Tensor]:
        """Images to float [0, 1]; in training also `augmented` (B, C, H, W) and `mask` float (B, 1, H, W)."""
        image = to_float(batch["image"])
        batch = {**batch, "image": image}
        if self.augmentation is not None and self.trainer is not None and self.trainer.training:
            epoch = self.trainer.current_epoch
            batch["augmented"], batch["mask"] = self.augmentation(image, batch["index"], epoch, Donors(self.train))
        return batch

    def _split(self, scan: Scan) -> Splits:
        normal, self._same_content = without_test_copies(scan, leave_out=self.skip_unreadable)
        if not scan.train:
            return Splits([], [], scan.test)
        return Splits(*split_calibration(normal, self.calibration_fraction, self._same_content), scan.test)

    def _decoder(self, scan: Scan) -> Callable[[Sample], Decoded]:
        def decode(sample: Sample) -> Decoded:
            if sample.path is None:
                assert scan.pixels is not None, "a layout whose samples have no path must supply pixels"
                intensity_range = self.intensity_range or (0.0, 255.0)
                return convert(scan.pixels(sample), self.channels, self.image_size, intensity_range), None
            image = load_image(sample.path, **self.preprocessing)
            if sample.mask is None:
                return image, None
            return image, load_mask(sample.mask, sample.path, self.image_size, self.max_pixels)

        return decode

    def _store(self, lists: Iterable[list[Sample]]) -> NewStore:
        """Memory while all sets together stay under the cap."""
        height, width = self.image_size
        planes = sum(len(part) * (self.channels + any(sample.mask for sample in part)) for part in lists)
        fits = planes * height * width <= self.cache_mb * 10**6
        return MemoryStore if fits else functools.partial(FileStore, folder=self.cache_dir)

    def _loader(
        self, image_set: ImageSet, batches: Sampler[Any], kind: type[DataLoader[dict[str, Tensor]]] = DataLoader
    ) -> DataLoader[dict[str, Tensor]]:
        on_gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return kind(
            image_set,
            sampler=batches,
            batch_size=None,  # the sampler's items are whole batches already
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=on_gpu,
            generator=torch.Generator(),  # its own: otherwise each pass would advance the global one
        )

    def _rank(self) -> tuple[int, int]:
        """(rank, world size)."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
