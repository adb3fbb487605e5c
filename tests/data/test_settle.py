"""What `auto` means for a folder, and what is said of files that use little of their range."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomap.data.settle import absolute_folders, natural_range, settle
from anomap.detection.detector import Preprocessing
from anomap.errors import UserError

from .. import tiny
from .helpers import make_dataset, save, tiff

RNG = np.random.default_rng(5)


def settled(root: Path, *overrides: str) -> dict[str, Any]:
    auto = "data.channels=auto"
    return settle(tiny.config("model=ganomaly", f"data.root={root}", auto, *overrides))[0]


def write(root: Path, values: Any, count: int = 6) -> Path:
    """A data set of TIFFs; `values(number)` makes an image."""
    for number in range(count):
        path = root / f"train/good/{number}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tiff(values(number)))
    return root


def test_grey_files_make_one_channel_also_in_the_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    root = make_dataset(tmp_path)
    save(root / "train/0.normal/rgb.png", np.repeat(RNG.integers(0, 256, (8, 8, 1)), 3, 2).astype(np.uint8))
    config = settled(root)
    assert config["data"]["channels"] == 1
    objective = config["model"]["objective"]
    assert objective["generator"]["channels"] == objective["discriminator"]["channels"] == 1
    assert "data.channels=1: all of 13 of 13 training files are grey" in caplog.text
    save(root / "train/0.normal/colour.png", RNG.integers(0, 256, (8, 8, 3)).astype(np.uint8))
    config = settled(root)
    assert (config["data"]["channels"], config["model"]["objective"]["generator"]["channels"]) == (3, 3)
    assert "data.channels=3: 1 of 14 looked at, of 14 training files, are in colour" in caplog.text


def test_test_images_decide_nothing(tmp_path: Path) -> None:
    root = make_dataset(tmp_path)
    save(root / "test/crack/colour.png", RNG.integers(0, 256, (8, 8, 3)).astype(np.uint8))
    assert settled(root)["data"]["channels"] == 1


def test_a_number_is_left_as_it_is(tmp_path: Path) -> None:
    assert settled(make_dataset(tmp_path), "data.channels=3")["data"]["channels"] == 3


def test_twelve_bits_in_sixteen_are_noticed_and_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write(tmp_path, lambda _: RNG.integers(0, 4096, (64, 64, 1)).astype(np.uint16))
    assert settled(root)["data"]["intensity_range"] is None
    assert "the training files use 6.2% of their range" in caplog.text
    assert "is it data.intensity_range=[0,4095]" in caplog.text
    caplog.clear()
    assert settled(root, "data.intensity_range=auto")["data"]["intensity_range"] == [0, 4095]
    assert not [record for record in caplog.records if record.levelname == "WARNING" and "use" in record.getMessage()]


def test_twelve_bits_that_the_files_name_hold_for_arrays_too(tmp_path: Path) -> None:
    values = RNG.integers(0, 4096, (8, 8)).astype(np.uint16)
    folder = tmp_path / "train/good"
    folder.mkdir(parents=True)
    for number in range(6):
        (folder / f"{number}.pgm").write_bytes(b"P5 8 8 4095\n" + values.astype(">u2").tobytes())
    data = settled(tmp_path, "data.image_size=8")["data"]
    assert data["intensity_range"] == [0, 4095]
    preprocessing = Preprocessing.from_dict({**data, "size": [8, 8]})
    np.testing.assert_array_equal(preprocessing.take(values), preprocessing.read(folder / "0.pgm"))
    save(folder / "eight.png", seed=1)
    assert settled(tmp_path)["data"]["intensity_range"] is None  # each type has its own


def test_a_full_range_and_a_chosen_one_bring_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settled(write(tmp_path / "a", lambda _: RNG.integers(0, 65536, (16, 16, 1)).astype(np.uint16)))
    dark = write(tmp_path / "b", lambda _: RNG.integers(0, 300, (16, 16, 1)).astype(np.uint16))
    settled(dark, "data.intensity_range=[0,4095]")
    assert "of their range" not in caplog.text


def test_hot_pixels_do_not_decide_the_range(tmp_path: Path) -> None:
    def hot(_: int) -> Any:
        values = RNG.integers(0, 4000, (200, 200, 1)).astype(np.uint16)
        values[3, 5] = 65535
        return values

    assert settled(write(tmp_path, hot), "data.intensity_range=auto")["data"]["intensity_range"] == [0, 4095]


def test_floats_get_a_range_and_mixed_types_none(tmp_path: Path) -> None:
    root = write(tmp_path, lambda _: RNG.random((16, 16, 1)))
    assert settled(root, "data.intensity_range=auto")["data"]["intensity_range"] == [0, 1]
    save(root / "train/good/8.png", seed=1)
    with pytest.raises(UserError, match=r"data\.intensity_range=auto: .*float64 and uint8 up to 255"):
        settled(root, "data.intensity_range=auto")


@pytest.mark.parametrize(
    ("low", "high", "whole", "expected"),
    [
        (0, 4095, True, [0, 4095]),
        (12, 3000, True, [0, 4095]),
        (0, 1023, True, [0, 1023]),
        (0, 255, True, [0, 255]),
        (-1000, 3000, True, [-4096, 4095]),
        (-128, 127, True, [-128, 127]),
        (0.1, 0.9, False, [0, 1]),
        (-0.9, 0.8, False, [-1, 1]),
        (3.5, 201.2, False, [0, 255]),
        (30000, 30300, True, [29850, 30450]),
    ],
)
def test_natural_ranges(low: float, high: float, whole: bool, expected: list[float]) -> None:
    assert natural_range(low, high, whole) == expected


@pytest.mark.parametrize("low", [-50.0, 0.0, 0.2, 1000.0])
@pytest.mark.parametrize("span", [1e-6, 0.3, 40.0])
def test_a_range_holds_what_it_is_made_of(low: float, span: float) -> None:
    found = natural_range(low, low + span, whole=False)
    assert found[0] <= low < low + span <= found[1]


def test_folders_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_dataset(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert settled(Path("data"))["data"]["root"] == str(tmp_path / "data")
    assert absolute_folders({"root": None, "normal_dir": "data/../data", "name": "data"}) == {
        "root": None,
        "normal_dir": str(tmp_path / "data"),
        "name": "data",
    }
    assert absolute_folders({"root": "no folder"}) == {"root": "no folder"}  # of a layout of the user's own


@pytest.mark.parametrize(("size", "tile"), [((80, 70), 32), ((64, 64), 32), ((300, 60), None), ((40, 50), None)])
def test_auto_tiles_what_would_be_squeezed_to_half(
    size: tuple[int, int], tile: int | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write(tmp_path, lambda _: RNG.integers(0, 255, (*size, 1)).astype(np.uint8))
    with caplog.at_level("INFO"):
        config = settled(root, "data.tile=auto")
    assert (config["data"]["tile"], config["data"]["image_size"]) == (tile, 32)
    assert f"data.tile={'null' if tile is None else tile}: " in caplog.text
    assert f"{size[1]} x {size[0]} pixels" in caplog.text


def test_the_network_is_made_for_the_tile(tmp_path: Path) -> None:
    root = write(tmp_path, lambda _: RNG.integers(0, 255, (80, 70, 1)).astype(np.uint8))
    config = settled(root, "data.tile=64")
    assert config["data"]["image_size"] == 64
    assert config["model"]["objective"]["generator"]["image_size"] == 64


def test_a_closer_look_squeezes_less(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write(tmp_path, lambda _: RNG.integers(0, 255, (90, 80, 1)).astype(np.uint8))
    settled(root, "data.scales=[1,2]")  # of 32 and 64 pixels
    assert "squeezed" not in caplog.text
    settled(
        write(tmp_path / "large", lambda _: RNG.integers(0, 255, (180, 160, 1)).astype(np.uint8)), "data.scales=[1,2]"
    )
    assert "2.5 times as large as the 64 that the network sees" in caplog.text


@pytest.mark.parametrize(("size", "said"), [((90, 80), True), ((40, 50), False)])
def test_photographs_that_are_squeezed_hard_are_told(
    size: tuple[int, int], said: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settled(write(tmp_path, lambda _: RNG.integers(0, 255, (*size, 1)).astype(np.uint8)))
    assert ("data.tile=auto keeps their size" in caplog.text) == said
    if said:
        assert (
            "photographs of about 80 x 90 pixels are 2.5 times as large as the 32 that the network sees" in caplog.text
        )
