"""The cache of scores: what is written is read, whatever changes the scores changes the key, damage is not an error."""

import dataclasses
import importlib.metadata
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import anomap
from anomap.data.layouts.folder import FolderLayout
from anomap.data.samples import Sample, Scan
from anomap.detection.metrics import ConfidenceInterval
from anomap.detection.scoring import ImageScores
from anomap.evaluation import cache_key
from anomap.evaluation.cache_key import cache_path
from anomap.evaluation.score_cache import load, save
from anomap.evaluation.scored_set import Picture, ScoredSet
from tests import tiny


def scored_set(optional: bool = True) -> ScoredSet:
    generator = np.random.default_rng(0)

    def picture() -> Picture:
        image = generator.integers(0, 256, (1, 4, 6), np.uint8)
        anomaly_map = generator.random((1, 4, 6)).astype(np.float32)
        if not optional:
            return Picture(image, anomaly_map)
        return Picture(image, anomaly_map, (anomaly_map > 0.5).astype(np.uint8), 1 - anomaly_map, 255 - image)

    test = ImageScores(
        np.array([0.1, 1 / 3, -2e9]),
        np.array([0, 1, 0]),
        np.array([1, 2, 3], np.float32),
        {"pixel_auroc": 0.1 + 0.2, "pixel_ap": None},
        {"part_map_auroc": 0.1 + 0.6},
    )
    names = ["test/a.png", "test/\udcff, é\n.png", "b"]
    return ScoredSet(
        test, names, ["good", "hole", "good"], 1.5, 7, ConfidenceInterval(0.25, 0.75), {0: picture(), 2: picture()}
    )


def test_pictures_of_which_some_have_no_mask(tmp_path: Path) -> None:
    scored = scored_set()
    pictures = {0: dataclasses.replace(scored.pictures[0], mask=None), 2: scored.pictures[2]}
    save(tmp_path / "scores.npz", dataclasses.replace(scored, pictures=pictures, pixel_note="one is empty"))
    found = load(tmp_path / "scores.npz")
    assert found is not None
    assert found.pixel_note == "one is empty"
    assert found.pictures[0].mask is None
    np.testing.assert_array_equal(found.pictures[2].mask, pictures[2].mask)
    np.testing.assert_array_equal(found.pictures[0].image, pictures[0].image)


def test_a_large_photograph_keeps_its_zoom(tmp_path: Path) -> None:
    scored = scored_set()
    piece = dataclasses.replace(scored.pictures[2], place=np.array([0, 0.5, 0.25, 1], np.float32))
    pictures = {0: scored.pictures[0], 2: dataclasses.replace(scored.pictures[2], zoom=piece)}
    save(tmp_path / "scores.npz", dataclasses.replace(scored, pictures=pictures))
    found = load(tmp_path / "scores.npz")
    assert found is not None
    assert found.pictures[0].zoom is None
    zoom = found.pictures[2].zoom
    assert zoom is not None
    for field in ("image", "anomaly_map", "mask", "attention_map", "restored", "place"):
        np.testing.assert_array_equal(getattr(zoom, field), getattr(piece, field), strict=True)


@pytest.mark.parametrize("optional", [True, False])
def test_what_is_saved_is_loaded_to_the_last_digit(tmp_path: Path, optional: bool) -> None:
    scored = scored_set(optional)
    save(tmp_path / "scores.npz", scored)
    found = load(tmp_path / "scores.npz")
    assert found is not None
    for kept in ("scores", "labels", "map_peaks"):
        np.testing.assert_array_equal(getattr(found.test, kept), getattr(scored.test, kept), strict=True)
    assert (found.test.pixel, found.test.parts) == (scored.test.pixel, scored.test.parts)
    assert list(found.rows(0.2)) == list(scored.rows(0.2))
    assert (found.seconds, found.operations, found.interval) == (1.5, 7, (0.25, 0.75))
    assert found.pictures.keys() == {0, 2}
    for index, picture in scored.pictures.items():
        for key, value in dataclasses.asdict(picture).items():
            np.testing.assert_array_equal(getattr(found.pictures[index], key), value, strict=True)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.npz"]


def test_pictures_are_left_where_nobody_looks(tmp_path: Path) -> None:
    save(tmp_path / "scores.npz", scored_set())
    found = load(tmp_path / "scores.npz", pictures=False)
    assert found is not None
    assert (len(found.names), found.pictures) == (3, {})


def test_a_set_without_interval_and_pictures(tmp_path: Path) -> None:
    save(tmp_path / "scores.npz", dataclasses.replace(scored_set(), interval=None, pictures={}))
    found = load(tmp_path / "scores.npz")
    assert found is not None
    assert (found.interval, found.pictures) == (None, {})


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _flip(content: bytes) -> bytes:
    middle = content.index(b"scores.npy") + 164  # behind the headers: in the numbers
    return content[:middle] + bytes(255 - byte for byte in content[middle : middle + 8]) + content[middle + 8 :]


@pytest.mark.parametrize("damage", [_cut, _flip, lambda _: b"", lambda _: b"no archive"])
def test_damage_is_a_line_in_the_log(
    tmp_path: Path, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "scores.npz"
    save(path, scored_set())
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert load(path) is None
    (record,) = caplog.records
    assert f"{path}: damaged" in record.message


def test_pickled_objects_and_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.npz"
    np.savez(path, allow_pickle=True, text=np.array([{"code": 1}], object))
    assert load(path) is None
    scored = scored_set()
    save(path, dataclasses.replace(scored, names=scored.names[:2]))
    assert load(path) is None
    save(path, dataclasses.replace(scored, test=dataclasses.replace(scored.test, scores=np.array([1, np.nan, 2]))))
    assert load(path) is None


def test_no_file_is_no_news_and_no_room_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load(tmp_path / "scores.npz") is None
    assert caplog.records == []
    (tmp_path / "file").touch()
    with caplog.at_level(logging.INFO):
        save(tmp_path / "file" / "scores.npz", scored_set())
    assert "not kept" in caplog.text


# --- the key ---


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tiny.write_folder(tmp_path / "data", train=2, normal=2, abnormal=1)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"weights")
    return path


def test_the_file_lies_beside_the_checkpoint_and_its_name_lasts(checkpoint: Path, root: Path) -> None:
    first, again = (cache_path(checkpoint, {"root": str(root)}, FolderLayout(root).scan()) for _ in range(2))
    assert first == again
    assert first.parent == checkpoint.parent.resolve()
    assert first.match("scores-*.npz")


def _touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


CHANGES: dict[str, Callable[[Path, Path], object]] = {
    "a test file's time": lambda root, _: _touch(root / "test/0.normal/02.png"),
    "a mask's time": lambda root, _: _touch(root / "ground_truth/hole/04_mask.png"),
    "a file's name": lambda root, _: (root / "test/0.normal/02.png").rename(root / "test/0.normal/2.png"),
    "one file less": lambda root, _: (root / "test/0.normal/02.png").unlink(),
    "a defect's name": lambda root, _: [(root / part / "hole").rename(root / part / "dent") for part in _PARTS],
    "the weights": lambda _, checkpoint: checkpoint.write_bytes(b"weightz"),
}
_PARTS = ("test", "ground_truth")


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_the_scores_changes_the_key(change: str, checkpoint: Path, root: Path) -> None:
    before = cache_path(checkpoint, {}, FolderLayout(root).scan())
    CHANGES[change](root, checkpoint)
    assert cache_path(checkpoint, {}, FolderLayout(root).scan()) != before


def test_training_files_do_not_change_the_key(checkpoint: Path, root: Path) -> None:
    before = cache_path(checkpoint, {}, FolderLayout(root).scan())
    _touch(root / "train/0.normal/00.png")
    assert cache_path(checkpoint, {}, FolderLayout(root).scan()) == before


def test_reading_is_part_of_the_key(checkpoint: Path, root: Path) -> None:
    scan = FolderLayout(root).scan()
    assert len({cache_path(checkpoint, {"image_size": size}, scan) for size in (32, 64)}) == 2


@pytest.mark.parametrize("package", ["torch", "timm", "pillow"])
def test_another_version_of_a_package_changes_the_key(
    package: str, checkpoint: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, version = FolderLayout(root).scan(), importlib.metadata.version
    before = cache_path(checkpoint, {}, scan)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0" if name == package else version(name))
    assert cache_path(checkpoint, {}, scan) != before


@pytest.mark.parametrize(
    ("file", "decides"),
    [
        ("config.py", True),
        ("intervals.py", True),
        ("data/images.py", True),
        ("detection/standardise.py", True),
        ("evaluation/scored_set.py", True),
        ("networks/blocks.py", True),
        ("objectives/density.py", True),
        ("augmentation/fills.py", False),
        ("training/train.py", False),
    ],
)
def test_code_that_decides_a_score_is_part_of_the_key(
    file: str, decides: bool, checkpoint: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = shutil.copytree(Path(anomap.__file__).parent, tmp_path / "anomap", ignore=shutil.ignore_patterns("conf"))
    monkeypatch.setattr(anomap, "__file__", str(own / "__init__.py"))
    scan, keys = FolderLayout(root).scan(), []
    for _ in range(2):
        cache_key._code_digest.cache_clear()
        keys.append(cache_path(checkpoint, {}, scan))
        (own / file).write_text((own / file).read_text() + "# changed\n")
    cache_key._code_digest.cache_clear()
    assert (keys[0] != keys[1]) == decides


@pytest.mark.parametrize("file", ["a_plugin.py", "a_plugin/inside/deep.py"])
def test_an_edited_plugin_changes_the_key(
    file: str, checkpoint: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = tmp_path / file
    plugin.parent.mkdir(parents=True, exist_ok=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    scan, keys = FolderLayout(root).scan(), [cache_path(checkpoint, {}, FolderLayout(root).scan())]
    monkeypatch.setenv("ANOMAP_PLUGINS", "not_there, a_plugin")
    for text in ("x = 1", "x = 2", "x = 1"):
        plugin.write_text(text)
        cache_key._code_digest.cache_clear()
        importlib.invalidate_caches()
        keys.append(cache_path(checkpoint, {}, scan))
    assert keys[1] == keys[3]
    assert len(set(keys)) == 3


def test_pixels_without_a_file_are_part_of_the_key(checkpoint: Path) -> None:
    sample = Sample("t10k/00000", 0, "shirt")
    keys = {
        cache_path(checkpoint, {}, Scan([], [sample], lambda _, grey=grey: np.full((2, 2), grey, np.uint8)))
        for grey in (0, 1)
    }
    assert len(keys) == 2
