"""The data of a run: normal images to train on, held-out ones to calibrate with, mixed ones to test on."""

import functools
import logging
import math
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from anomap.config import check_choice, check_switches, check_whole
from anomap.data.aligned import PLACES, check_aligned, check_setting
from anomap.data.checks import (
    check_bands,
    check_channels,
    check_fraction,
    check_image_size,
    check_intensity_range,
    check_share,
)
from anomap.data.decode import FileStore, MemoryStore
from anomap.data.images import BACKGROUNDS, EIGHT_BITS, MAX_PIXELS, convert, load_image
from anomap.data.imageset import Decoded, ImageSet, NewStore, decode_image_set
from anomap.data.leakage import without_test_copies
from anomap.data.masks import read_masks
from anomap.data.near_copies import warn_of_near_copies, warn_of_trained_copies
from anomap.data.photographs import TileSet, check_tiling, sampled_tiles
from anomap.data.ragged import RaggedStore
from anomap.data.reading import read_size
from anomap.data.sampler import Index, SequentialBatches, TileBatches, TrainBatches, TrainLoader
from anomap.data.samples import Layout, PixelSource, Sample, choose_scaling, split_calibration, spread
from anomap.data.tiles import TrainingWindows
from anomap.errors import UserError

log = logging.getLogger(__name__)

MONITORED = 6  # photographs at least that are scored between epochs

Augmentation = Callable[[Tensor, Tensor, int, NDArray[np.uint8]], tuple[Tensor, Tensor]]
Batch = dict[str, Tensor]
Loader = DataLoader[Batch]


@dataclass(frozen=True)
class Share:
    """Whose batches a loader gives, where several processes share them."""

    rank: int = 0
    world_size: int = 1
    pinned: bool = False  # in memory from which a GPU copies without waiting


ALONE = Share()


class AnomalyData:
    """Serves a layout's images as whole batches, indexed out of one uint8 array with no per-sample Python.

    `conf/data/base.yaml` explains the options; `seed` is that of the training order, and the model needs an image size
    that is a multiple of `stride`. `augmentation` is applied to training batches on the device: (float images
    (B, C, H, W) in [0, 1], index int64 (B,), epoch, all stored training images) -> (augmented images, mask float (B, 1, H, W)).
    UserError: an option is wrong; from `setup()`: the data is, and the file or folder is named.
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
        limit: int | None = None,
        bands: Sequence[int] | None = None,
        background: str = "black",
        num_workers: int = 0,
        tile: int | str | None = None,
        tile_overlap: float = 0.25,
        scale: float = 1.0,
        scales: Sequence[int] | None = None,
        aligned: bool | str = "auto",
        check_training: bool = True,
        contamination: float = 0.0,
        seed: int = 0,
        stride: int = 1,
    ) -> None:
        check_choice("data.on_error", on_error, ("raise", "skip"))
        check_whole("data.batch_size", batch_size, 1)
        check_whole("data.cache_mb", cache_mb, 0)
        check_whole("data.max_pixels", max_pixels, 1)
        check_whole("data.monitor_images", monitor_images, 1)
        check_whole("data.num_workers", num_workers, 0)
        if limit is not None:
            check_whole("data.limit", limit, 1)
        self.layout, self.augmentation = layout, augmentation
        self.tiling = check_tiling(image_size, tile, tile_overlap, scale, scales, stride)
        self.image_size = check_image_size(image_size if tile is None else tile, stride)  # that the network sees
        self.scale = scale
        check_setting(aligned)
        self.aligned = aligned
        check_switches({"data.check_training": check_training}, "data.check_training")
        self.check_training, self.contamination = check_training, check_share("contamination", contamination)
        self.channels = check_channels(channels)
        self.calibration_fraction = check_fraction("calibration_fraction", calibration_fraction)
        self.intensity_range = check_intensity_range(intensity_range)
        self.bands, self.background = check_bands(bands), background
        check_choice("data.background", background, BACKGROUNDS)
        self.skip_unreadable = on_error == "skip"
        self.cache_mb, self.cache_dir = cache_mb, None if cache_dir is None else os.path.expanduser(cache_dir)
        self.max_pixels, self.monitor_images, self.limit = max_pixels, monitor_images, limit
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How images are read: `load_image(path, **preprocessing)` reads one the same way."""
        return {
            "channels": self.channels,
            "size": self.image_size if self.tiling is None else self.tiling.reads(self.scale),
            "intensity_range": self.intensity_range,
            "max_pixels": self.max_pixels,
            "bands": self.bands,
            "background": self.background,
        }

    def setup(self) -> None:
        """Find, check, split and decode all images into `train`, `calibration`, `test`; later calls do nothing."""
        if hasattr(self, "train"):
            return
        scan = self.layout.scan()
        normal, same_content = without_test_copies(scan, leave_out=self.skip_unreadable)
        lists: dict[str, list[Sample]] = {"training": [], "calibration": [], "test": scan.test}
        if scan.train:
            lists["training"], lists["calibration"] = split_calibration(normal, self.calibration_fraction, same_content)
        lists = self._limited(lists)
        masks = read_masks(lists["test"], self.max_pixels, self.skip_unreadable, self.cache_mb * 10**6 // 4)
        # tiled photographs of any size have no shape in common, and their store asks for none
        size = self.preprocessing["size"]
        store, shape = self._store(lists.values()), (self.channels, *(size if isinstance(size, tuple) else ()))
        decode = functools.partial(self._decode, scan.pixels)
        sets: list[ImageSet] = []
        for label, samples in lists.items():
            sets.append(decode_image_set(samples, decode, shape, label, self.skip_unreadable, store))
            if samples and len(sets[-1]) == 0:
                raise UserError(f"none of the {len(samples)} {label} images can be read: mend or replace them")
        self.train, self.calibration, self.test = sets
        self.test.masks = masks
        if scan.pixels is None:
            for normal_set in (self.train, self.calibration):
                warn_of_near_copies(self.test, normal_set)
            warn_of_trained_copies(self.calibration, self.train)
        self.calibration.scaling = choose_scaling(self.calibration.samples, same_content)
        if scan.pixels is None:
            for part in (self.calibration, self.test):
                part.sizes = np.array([self._size(sample) for sample in part.samples], np.int64).reshape(-1, 2)
        self.clean, self.left_out = self.pieces(self.train), self.train.part(np.arange(0))
        self.aligned = check_aligned(self.aligned, self.train.images, self.tiling)
        log.info("data: %s", ", ".join(f"{count} {name[2:]}" for name, count in self.counts().items()))

    def leave_out(self, unlike: Sequence[int]) -> None:
        """Learn from all training images but these indices, which become `left_out`."""
        kept = np.setdiff1d(np.arange(len(self.train)), unlike)
        self.left_out, self.train = self.train.part(np.array(unlike, np.int64)), self.train.part(kept)
        self.clean = self.pieces(self.train)

    def counts(self) -> dict[str, int]:
        """Sizes of the sets, under their names in `metrics.json`."""
        abnormal = int(self.test.labels.sum())
        return {
            "n_train": len(self.train),
            "n_calibration": len(self.calibration),
            "n_test_normal": len(self.test) - abnormal,
            "n_test_abnormal": abnormal,
        }

    def train_dataloader(self, share: Share = ALONE) -> Loader:
        """Shuffled training batches; UserError when the data is a test set only."""
        if len(self.train) == 0:
            raise UserError(
                "no training images: data.normal_dir and data.abnormal_dir make a test set only; set data.root to train"
            )
        if self.tiling is None:
            order = TrainBatches(len(self.train), self.batch_size, self.seed, share.rank, share.world_size)
            return self._loader(self.train, order, share, TrainLoader)
        windows = self.windows(self.train)
        order = TileBatches(len(windows), self.batch_size, self.seed, share.rank, share.world_size, windows=windows.at)
        return self._loader(TileSet(self.train, self.tiling), order, share, TrainLoader)

    def windows(self, part: ImageSet) -> TrainingWindows:
        """Of photographs that are tiled, to be drawn at random."""
        assert self.tiling is not None
        return TrainingWindows(self.tiling, part.shapes, self.seed)

    def pieces(self, part: ImageSet) -> ImageSet:
        """Images of the size that the network sees: they themselves, or a fixed sample of their tiles."""
        return part if self.tiling is None else sampled_tiles(part, self.windows(part), self.image_size)

    def learned_places(self) -> list[NDArray[np.uint8]]:
        """Some of the whole training photographs (C, H, W), if they are to be compared place by place; or none."""
        return spread(self.train.images, PLACES) if self.aligned else []

    def calibration_dataloader(self) -> Loader:
        return self._in_order(self.calibration)

    def test_dataloader(self) -> Loader:
        return self._in_order(self.test)

    def monitored_dataloaders(self, share: Share = ALONE) -> list[Loader]:
        """[calibration, test], at most `monitor_images` of each, spread evenly; no second one without a test set."""
        return [self._in_order(part, share, self.monitor_images) for part in (self.calibration, self.test) if len(part)]

    def uncut(self, batch: Batch) -> bool:
        """Whether it holds a photograph whose tiles are yet to be cut: it stays in bytes, on the CPU."""
        return self.tiling is not None and batch["image"].shape[-2:] != self.image_size

    def _limited(self, lists: dict[str, list[Sample]]) -> dict[str, list[Sample]]:
        """At most `limit` samples of each, spread evenly: of a test set all kinds."""
        limit = self.limit
        if limit is None or all(len(samples) <= limit for samples in lists.values()):
            return lists
        log.info("data.limit=%d: of %s", limit, ", ".join(f"{len(found)} {name}" for name, found in lists.items()))
        return {name: spread(found, limit) for name, found in lists.items()}

    def _decode(self, pixels: PixelSource | None, sample: Sample) -> Decoded:
        if sample.path is None:
            assert pixels is not None, "a layout whose samples have no path must supply pixels"
            size = self.preprocessing["size"]
            return convert(pixels(sample), self.channels, size, self.intensity_range or EIGHT_BITS)
        return load_image(sample.path, **self.preprocessing)

    def _store(self, lists: Iterable[list[Sample]]) -> NewStore:
        """Memory while all sets together stay under the cap, a mapped file above it."""
        size = self.preprocessing["size"]
        if isinstance(size, tuple):
            fits = sum(map(len, lists)) * self.channels * math.prod(size) <= self.cache_mb * 10**6
            return MemoryStore if fits else functools.partial(FileStore, folder=self.cache_dir)
        fits = sum(self._bytes(sample) for part in lists for sample in part) <= self.cache_mb * 10**6
        return lambda *_: RaggedStore(None if fits else FileStore(0, None, self.cache_dir))

    def _bytes(self, sample: Sample) -> float:
        """That a photograph will take, by its header."""
        with suppress(UserError, OSError):  # decoding tells
            height, width = self.image_size if sample.path is None else read_size(sample.path, self.max_pixels)
            return height * width * self.scale**2 * self.channels
        return 0

    def _size(self, sample: Sample) -> tuple[int, int]:
        """(H, W) of a file that was read."""
        assert sample.path is not None
        return read_size(sample.path, self.max_pixels)

    def _in_order(self, part: ImageSet, share: Share = ALONE, at_most: int | None = None) -> Loader:
        """In stored order; over all processes every sample once."""
        size = self.batch_size if self.tiling is None else 1
        if self.tiling is not None and at_most is not None:  # tiles, of some photographs of each kind
            tiles = sum(map(self.tiling.count, part.shapes.tolist()))
            at_most = max(MONITORED, at_most * len(part) // max(1, tiles))
        return self._loader(part, SequentialBatches(len(part), size, share.rank, share.world_size, at_most), share)

    def _loader(
        self, image_set: Dataset[Batch], batches: Iterable[Index], share: Share, kind: type[Loader] = DataLoader
    ) -> Loader:
        return kind(
            image_set,
            sampler=batches,
            batch_size=None,  # the sampler's items are whole batches already
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=share.pinned,
            generator=torch.Generator(),  # its own: otherwise each pass would advance the global one
        )
