"""A run's data as training and scoring use it, by itself and in Lightning's hands."""

import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor

from anomap.data.anomaly_data import AnomalyData
from anomap.data.images import load_image
from anomap.data.imageset import to_float
from anomap.data.layouts.folder import FolderLayout
from anomap.data.samples import choose_scaling
from anomap.errors import UserError
from anomap.training.datamodule import AnomalyDataModule

from .helpers import make_dataset, module, save


def setup_error(root: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        module(root, **options).setup()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_sets_are_disjoint_normal_and_complete(tmp_path: Path) -> None:
    data = module(make_dataset(tmp_path, train=40))
    data.setup()
    lists = [data.train.samples, data.calibration.samples, data.test.samples]
    names = [sample.name for samples in lists for sample in samples]
    assert len(names) == len(set(names)) == 47
    assert {sample.label for sample in data.train.samples + data.calibration.samples} == {0}
    counts = data.counts()
    assert counts["n_train"] + counts["n_calibration"] == 40
    assert (counts["n_test_normal"], counts["n_test_abnormal"]) == (4, 3)
    assert counts["n_calibration"] >= 1


def test_a_limit_keeps_so_many_of_each_set_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_dataset(tmp_path, train=40)
    whole, limited = module(root), module(root, limit=3)
    whole.setup()
    with caplog.at_level(logging.INFO):
        limited.setup()
    counts = whole.counts()
    said = f"data.limit=3: of {counts['n_train']} training, {counts['n_calibration']} calibration, 7 test"
    assert said in caplog.text
    for few, all_of_them in (
        (limited.train, whole.train),
        (limited.calibration, whole.calibration),
        (limited.test, whole.test),
    ):
        assert len(few) == min(3, len(all_of_them))
        places = [all_of_them.samples.index(sample) for sample in few.samples]
        assert places == sorted(places)
    assert set(limited.test.labels.tolist()) == {0, 1}  # spread over the set
    with pytest.raises(UserError, match=r"data\.limit=0"):
        module(root, limit=0)


def test_stored_images_are_what_prediction_reads(tmp_path: Path) -> None:
    data = module(make_dataset(tmp_path), image_size=[4, 6], channels=3)
    data.setup()
    for image_set in (data.train, data.calibration, data.test):
        for sample, stored in zip(image_set.samples, image_set.images, strict=True):
            assert sample.path is not None
            assert (load_image(sample.path, **data.preprocessing) == stored).all()


def test_setup_is_idempotent(tmp_path: Path) -> None:
    data = module(make_dataset(tmp_path))
    data.setup()
    images = data.train.images
    shutil.rmtree(tmp_path)
    data.setup()
    assert data.train.images is images


def test_loaders_yield_whole_batches(tmp_path: Path) -> None:
    data = module(make_dataset(tmp_path, masks=True))
    data.setup()
    batches = list(data.test_dataloader())
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(7))
    assert {key: (value.dtype, tuple(value.shape)) for key, value in batches[0].items()} == {
        "image": (torch.uint8, (4, 1, 8, 8)),
        "label": (torch.int64, (4,)),
        "index": (torch.int64, (4,)),
        "size": (torch.int64, (4, 2)),
    }
    calibration, test = data.monitored_dataloaders()
    assert sum(len(batch["index"]) for batch in calibration) == len(data.calibration)
    assert sum(len(batch["index"]) for batch in test) == 7
    chosen = torch.cat([batch["scaling"] for batch in calibration])
    assert chosen.tolist() == choose_scaling(data.calibration.samples).tolist()
    assert "scaling" not in next(iter(test))


def test_masks_match_their_images(tmp_path: Path) -> None:
    data = module(make_dataset(tmp_path, masks=True))
    data.setup()
    masks = [data.test.mask_of(index) for index in range(7)]
    assert [mask is not None and int(mask.sum()) for mask in masks] == [0, 0, 0, 0, 4, 8, 12]
    assert data.train.mask_of(0) is None


def test_masks_keep_their_own_sizes(tmp_path: Path) -> None:
    root = make_dataset(tmp_path, masks=True)
    save(root / "test/crack/02.png", seed=9, size=(40, 24))
    line = np.zeros((40, 24), np.uint8)
    line[:, 13] = 255
    save(root / "ground_truth/crack/02_mask.png", line)
    data = module(root)
    data.setup()
    assert data.test.images.shape == (7, 1, 8, 8)
    mask = data.test.mask_of(6)
    assert mask is not None
    assert (mask == (line > 0)).all()
    other = data.test.mask_of(5)
    assert other is not None
    assert other.shape == (8, 8)


def test_masks_follow_their_images_when_others_are_left_out(tmp_path: Path) -> None:
    root = make_dataset(tmp_path, masks=True)
    (root / "test/0.normal/02.png").write_bytes(b"broken")
    data = module(root, on_error="skip")
    data.setup()
    masks = [data.test.mask_of(index) for index in range(6)]
    assert [mask is not None and int(mask.sum()) for mask in masks] == [0, 0, 0, 4, 8, 12]


def test_a_cap_of_zero_maps_everything_and_changes_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    root = make_dataset(tmp_path / "data", masks=True)
    memory, mapped = module(root), module(root, cache_mb=0, cache_dir=cache)
    memory.setup()
    mapped.setup()
    for name in ("train", "calibration", "test"):
        assert isinstance(getattr(mapped, name).images, np.memmap)
        assert not isinstance(getattr(memory, name).images, np.memmap)
        assert (getattr(mapped, name).images == getattr(memory, name).images).all()
    for index in range(7):
        np.testing.assert_array_equal(mapped.test.mask_of(index), memory.test.mask_of(index))
    assert list(cache.iterdir()) == []


def test_loaders_do_not_touch_the_global_random_state(tmp_path: Path) -> None:
    data = module(make_dataset(tmp_path))
    data.setup()
    before = torch.random.get_rng_state()
    list(data.train_dataloader())
    list(data.test_dataloader())
    assert torch.equal(before, torch.random.get_rng_state())


def test_workers_yield_the_same_batches(tmp_path: Path) -> None:
    root = make_dataset(tmp_path)
    orders = []
    for workers in (0, 1):
        data = module(root, num_workers=workers)
        data.setup()
        orders.append(torch.cat([batch["image"] for batch in data.train_dataloader()]))
    assert torch.equal(*orders)


class Recorder(pl.LightningModule):
    """Writes down what it is given, and can be trained."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.trained: list[tuple[int, dict[str, Tensor]]] = []
        self.scored: list[tuple[int, dict[str, Tensor]]] = []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.trained.append((self.current_epoch, batch))
        return (batch["image"] * self.scale).mean()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self.scored.append((dataloader_idx, batch))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def train(data: AnomalyData, epochs: int = 2) -> Recorder:
    recorder = Recorder()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    trainer.fit(recorder, datamodule=AnomalyDataModule(data))
    return recorder


def test_lightning_trains_on_every_normal_image_in_a_new_order_each_epoch(tmp_path: Path) -> None:
    data = module(make_dataset(tmp_path, train=30))
    recorder = train(data)
    orders = [torch.cat([b["index"] for epoch, b in recorder.trained if epoch == e]).tolist() for e in (0, 1)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(len(data.train)))
    assert all("augmented" not in batch for _, batch in recorder.trained)
    batch = recorder.trained[0][1]
    assert batch["image"].dtype == torch.float32
    stored = torch.from_numpy(data.train.images[batch["index"].numpy()])
    assert torch.equal(batch["image"], stored.float() / 255)


def test_augmentation_runs_in_training_only_with_index_epoch_and_donors(tmp_path: Path) -> None:
    calls = []

    def augmentation(images: Tensor, index: Tensor, epoch: int, donors: Any) -> tuple[Tensor, Tensor]:
        calls.append((epoch, len(donors)))
        assert torch.equal(to_float(torch.from_numpy(donors[index.numpy()])), images)
        return 1 - images, torch.ones_like(images[:, :1])

    data = module(make_dataset(tmp_path, masks=True), augmentation=augmentation)
    recorder = train(data)
    assert {epoch for epoch, _ in calls} == {0, 1}
    assert {count for _, count in calls} == {len(data.train)}
    for _, batch in recorder.trained:
        assert torch.equal(batch["augmented"], 1 - batch["image"])
        assert batch["mask"].shape == (len(batch["index"]), 1, 8, 8)
    for loader, batch in recorder.scored:
        assert "augmented" not in batch
        assert ("scaling" in batch) == (loader == 0)
        assert 0 <= batch["image"].min() <= batch["image"].max() <= 1


def test_ranks_of_the_trainer_share_the_work(tmp_path: Path) -> None:
    data = module(make_dataset(tmp_path, train=31))
    data.setup()
    trained, scored = [], []
    for rank in (0, 1):
        strategy = SimpleNamespace(root_device=torch.device("cpu"))
        served = AnomalyDataModule(data)
        served.trainer = SimpleNamespace(global_rank=rank, world_size=2, strategy=strategy)  # pyright: ignore
        trained.append(torch.cat([batch["index"] for batch in served.train_dataloader()]).tolist())
        scored.append(torch.cat([batch["index"] for batch in served.val_dataloader()[1]]).tolist())
    assert len(trained[0]) == len(trained[1])
    assert set(trained[0] + trained[1]) == set(range(len(data.train)))
    assert sorted(scored[0] + scored[1]) == list(range(7))


def test_two_folders_score_but_do_not_train(tmp_path: Path) -> None:
    root = make_dataset(tmp_path)
    data = module(FolderLayout(normal_dir=root / "test/0.normal", abnormal_dir=root / "test/crack"))
    data.setup()
    assert sum(len(batch["index"]) for batch in data.test_dataloader()) == 7
    assert list(data.calibration_dataloader()) == []
    with pytest.raises(UserError, match="no training images"):
        data.train_dataloader()


@pytest.mark.parametrize("place", ["train/0.normal", "test/0.normal", "test/crack"])
@pytest.mark.parametrize("pages", [False, True])
def test_an_unreadable_file_is_named_or_skipped(
    tmp_path: Path, place: str, pages: bool, caplog: pytest.LogCaptureFixture
) -> None:
    root = make_dataset(tmp_path, train=20)
    broken = root / place / "zz.png"
    if pages:
        page = Image.new("L", (8, 8))
        page.save(broken, "TIFF", save_all=True, append_images=[page])
    else:
        broken.write_bytes((root / place / "00.png").read_bytes()[:50])
    message = setup_error(root)
    assert str(broken) in message
    assert "on_error=skip" in message
    data = module(root, on_error="skip")
    with caplog.at_level(logging.WARNING):
        data.setup()
    assert "left out 1 of" in caplog.text
    assert len(data.train) + len(data.calibration) + len(data.test) == 27
    names = {s.name for s in data.train.samples + data.calibration.samples + data.test.samples}
    assert f"{place}/zz.png" not in names


def test_a_set_of_which_nothing_can_be_read(tmp_path: Path) -> None:
    root = make_dataset(tmp_path)
    for path in (root / "test").rglob("*.png"):
        path.write_bytes(path.name.encode() + path.parent.name.encode())
    assert "none of the 7 test images" in setup_error(root, on_error="skip")


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    root = make_dataset(tmp_path, masks=True)
    save(root / "ground_truth/crack/01_mask.png", size=(8, 9))
    assert "01_mask.png" in setup_error(root)
    data = module(root, on_error="skip")
    data.setup()  # the image is still scored
    assert [data.test.mask_of(index) is None for index in (4, 5, 6)] == [False, True, False]


def test_masks_are_checked_before_any_image_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_dataset(tmp_path, masks=True)
    save(root / "ground_truth/crack/01_mask.png", 255)
    monkeypatch.setattr("anomap.data.anomaly_data.load_image", lambda *_, **__: pytest.fail("decoded"))
    assert "is it inverted?" in setup_error(root)


def test_too_large_an_image(tmp_path: Path) -> None:
    root = make_dataset(tmp_path)
    assert "data.max_pixels=63" in setup_error(root, max_pixels=63)


def test_one_normal_image_is_too_few(tmp_path: Path) -> None:
    assert "at least 2" in setup_error(make_dataset(tmp_path, train=1))


def test_a_training_copy_of_a_test_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = make_dataset(tmp_path)
    for number in (1, 2, 3):  # whichever of them the split would put into calibration
        shutil.copy(root / f"test/0.normal/0{number}.png", root / f"train/0.normal/copy{number}.png")
    message = setup_error(root)
    assert "train/0.normal/copy1.png = test/0.normal/01.png" in message
    assert message.startswith("3 training")
    data = module(root, on_error="skip")
    with caplog.at_level(logging.WARNING):
        data.setup()
    assert "3 training image(s) are also in the test set" in caplog.text
    assert data.counts()["n_train"] + data.counts()["n_calibration"] == 12
    assert data.counts()["n_test_normal"] == 4


def test_a_test_image_that_is_normal_and_abnormal(tmp_path: Path) -> None:
    root = make_dataset(tmp_path)
    shutil.copy(root / "test/0.normal/00.png", root / "test/crack/99.png")
    for on_error in ("raise", "skip"):
        assert "both normal and abnormal" in setup_error(root, on_error=on_error)


def test_equal_training_images_stay_together(tmp_path: Path) -> None:
    root = make_dataset(tmp_path, train=20)
    for number in range(20):
        shutil.copy(root / f"train/0.normal/{number:02d}.png", root / f"train/0.normal/copy{number:02d}.png")
    data = module(root, calibration_fraction=0.5)
    data.setup()
    train_names, calibration_names = (
        {sample.name[-6:] for sample in samples} for samples in (data.train.samples, data.calibration.samples)
    )
    assert not train_names & calibration_names


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image_size", 10),
        ("channels", 2),
        ("batch_size", 0),
        ("calibration_fraction", 1.0),
        ("intensity_range", [5, 5]),
        ("on_error", "ignore"),
        ("cache_mb", -1),
        ("max_pixels", 0),
        ("num_workers", -1),
    ],
)
def test_wrong_options_are_found_at_construction(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"data\.{key}="):
        module(tmp_path, **{"stride": 4, key: value})


def test_two_folders_with_one_image_in_common(tmp_path: Path) -> None:
    root = make_dataset(tmp_path)
    shutil.copy(root / "test/0.normal/00.png", root / "test/crack/99.png")
    data = module(FolderLayout(normal_dir=root / "test/0.normal", abnormal_dir=root / "test/crack"))
    with pytest.raises(UserError, match="both normal and abnormal"):
        data.setup()


def test_a_training_without_a_test_set_watches_the_calibration_normals_alone(tmp_path: Path) -> None:
    data = module(make_dataset(tmp_path, normal=0, abnormal=0))
    recorder = train(data, epochs=1)
    assert data.counts() | {"n_train": 0, "n_calibration": 0} == dict.fromkeys(data.counts(), 0)
    assert [index for index, _ in recorder.scored] == [0] * len(recorder.scored)
    assert sum(len(batch["image"]) for _, batch in recorder.scored) == len(data.calibration) > 0


def test_the_index_stays_where_augmentation_reads_it(tmp_path: Path) -> None:
    """The meta device stands for a GPU: what is on it cannot be read without waiting."""
    make_dataset(tmp_path)
    data = module(tmp_path)
    batch = {"image": torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "index": torch.tensor([3, 1])}
    moved = AnomalyDataModule(data).transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved["image"].device.type == "meta"
    assert moved["index"].tolist() == [3, 1]
