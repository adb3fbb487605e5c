"""The IDX reader and the one-class view of Fashion-MNIST, on small files of the same form."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from anomap.data.layouts.fashion_mnist import DEBIAN_ROOT, FashionMnistLayout
from anomap.errors import UserError

from ..helpers import module

RNG = np.random.default_rng(3)


def write(root: Path, train: int = 60, test: int = 20, packed: bool = True) -> tuple[np.ndarray, np.ndarray]:
    images = np.empty(0)
    for prefix, count in (("train", train), ("t10k", test)):
        images = RNG.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for name, array in ((f"{prefix}-images-idx3-ubyte", images), (f"{prefix}-labels-idx1-ubyte", labels)):
            content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
            if packed:
                (root / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (root / name).write_bytes(content)
    return images, labels


@pytest.mark.parametrize("packed", [True, False])
def test_official_split_with_one_normal_class(tmp_path: Path, packed: bool) -> None:
    images, labels = write(tmp_path, packed=packed)
    data = module(FashionMnistLayout(tmp_path, 3), image_size=28)
    data.setup()
    assert data.counts()["n_train"] + data.counts()["n_calibration"] == 6
    assert (data.test.images[:, 0] == images).all()
    assert (data.test.labels == (labels != 3)).all()
    assert data.test.samples[4].name == "test/00004"
    assert data.test.samples[4].defect == "coat"
    assert {sample.defect for sample in data.train.samples + data.calibration.samples} == {"dress"}


def test_intensity_range_holds_for_arrays_too(tmp_path: Path) -> None:
    images, _ = write(tmp_path)
    data = module(FashionMnistLayout(tmp_path), image_size=28, channels=3, intensity_range=[0, 127.5])
    data.setup()
    assert (data.test.images == np.minimum(images.astype(int) * 2, 255)[:, None].repeat(3, 1)).all()


def test_classes_by_number_and_by_name(tmp_path: Path) -> None:
    assert FashionMnistLayout(tmp_path, "ankle-boot").normal_class == 9
    for wrong in (10, -1, "boot", True, None):
        with pytest.raises(UserError, match=r"data\.normal_class"):
            FashionMnistLayout(tmp_path, wrong)  # pyright: ignore[reportArgumentType]


def test_broken_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz"):
        FashionMnistLayout(tmp_path).scan()
    write(tmp_path)
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    header = struct.pack(">HBB3I", 0, 8, 3, 20, 28, 28)
    huge = struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**31, 28)
    for content in (
        whole[:-500],
        b"",
        b"text",
        gzip.compress(header),
        gzip.compress(huge),
        gzip.compress(b"12"),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte\.gz is not a sound IDX file"):
            FashionMnistLayout(tmp_path).scan()
    write(tmp_path, test=30)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes((tmp_path / "train-labels-idx1-ubyte.gz").read_bytes())
    with pytest.raises(UserError, match="do not belong together"):
        FashionMnistLayout(tmp_path).scan()


def test_the_real_data_set() -> None:
    if not Path(DEBIAN_ROOT).is_dir():
        pytest.skip("dataset-fashion-mnist is not installed")
    scan = FashionMnistLayout(normal_class="bag").scan()
    assert (len(scan.train), len(scan.test)) == (6000, 10_000)
    assert sum(sample.label == 0 for sample in scan.test) == 1000
