"""Detectors side by side: all see the same files, and what is measured is measured alike."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomap.data.build import build_data
from benchmark.detector_worker import Found, Method, Predict, Worker
from benchmark.detectors import COLUMNS, same_files, solar_cells, table
from tests import tiny


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_all_methods_learn_from_the_same_images(tmp_path: Path) -> None:
    """What anomap itself holds out of `all` is the calibration of the others."""
    root = tiny.write_folder(tmp_path / "data")
    folder = same_files(root, tmp_path / "same", 0.15)
    data = build_data(tiny.config(f"data.root={folder / 'all'}", "model=control_mean")["data"])
    data.setup()
    assert {Path(sample.name).name for sample in data.train.samples} == names(folder / "train" / "good")
    assert {Path(sample.name).name for sample in data.calibration.samples} == names(folder / "calibration" / "good")
    assert len(data.test) == 0


class Brightest(Method):
    """Scores by the mean; its map is the image."""

    def fit(self) -> Path:
        return Path(self.spec["data"]) / "detector"

    def predict(self, paths: Sequence[str]) -> Found:
        planes = np.stack([np.asarray(Image.open(path), np.float32) for path in paths])
        return planes.mean((1, 2), dtype=np.float64), planes


def test_all_methods_learn_from_as_many_solar_cells(tmp_path: Path) -> None:
    pytest.importorskip("elpv_dataset")
    root = solar_cells(tmp_path / "cells", 20)
    assert len(names(root / "train" / "good")) == 20
    assert len(names(root / "test" / "good")) == 321
    assert len(names(root / "test" / "defective")) == 715


class Exported(Brightest):
    """Its file scores two more."""

    def export(self) -> tuple[Path, Predict]:
        path = Path(self.spec["data"]) / "detector.onnx"
        path.write_bytes(bytes(1_000_000))
        path.with_suffix(".onnx.data").write_bytes(bytes(2_000_000))
        return path, lambda paths: (self.predict(paths)[0] + 2, self.predict(paths)[1])


@pytest.mark.parametrize("method", [Brightest, Exported])
def test_after_an_export_its_file_scores(method: type[Method], tmp_path: Path) -> None:
    (tmp_path / "test" / "good").mkdir(parents=True)
    (tmp_path / "train" / "good").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "train" / "good" / "0.png")
    for level in (10, 14):
        Image.new("L", (8, 8), level).save(tmp_path / "test" / "good" / f"{level}.png")
    spec = {"method": "x", "data": str(tmp_path), "root": str(tmp_path), "batch": 3}
    worker = Worker(method(spec), spec)
    found = worker.export()
    paths = [str(tmp_path / "test" / "good" / "10.png")]
    if method is Exported:
        assert found == {"exported_mb": 3.0, "exported_apart": 1.0}  # 2 apart where scores deviate by 2
        assert worker.predict(paths)[0] == 12
    else:
        assert found["exported_mb"] is None
        assert found["exported_note"] == "NotImplementedError: x: no export"
        assert worker.predict(paths)[0] == 10


def test_metrics_of_a_known_method(tmp_path: Path) -> None:
    def save(name: str, plane: np.ndarray) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(plane.astype(np.uint8)).save(path)

    for level in range(20):
        save(f"calibration/good/{level:02d}.png", np.full((8, 8), level))
    mask = np.zeros((8, 8))
    mask[2:4, 2:6] = 1
    for number, level in enumerate((3, 30)):
        save(f"test/good/{number}.png", np.full((8, 8), level))
        save(f"test/hole/{number}.png", 1 + level + 100 * mask)
        save(f"ground_truth/hole/{number}_mask.png", 255 * mask)
    (tmp_path / "detector").write_bytes(bytes(3_000_000))
    save("train/good/0.png", np.zeros((8, 8)))
    spec = {"data": str(tmp_path), "root": str(tmp_path), "batch": 3}
    worker = Worker(Brightest(spec), spec)
    assert worker.fit()["file_mb"] == pytest.approx(3)
    assert worker.threshold == 19  # the 20th of 20: 0.95 x 21
    assert worker.score()["count"] == 4
    assert set(worker.single(2)) == {"p50_ms", "p99_ms"}
    found = worker.test()
    assert (found["image_auroc"], found["caught"], found["false_alarms"]) == (0.75, 0.5, 0.5)
    assert found["pixel_ap"] == found["pixel_aupro"] == pytest.approx(1)


def test_the_table_has_a_row_for_each_method() -> None:
    values = {key: 1234.5678 for key, _ in COLUMNS.values()} | {"pixel_ap": None}
    header, line, row = table({"PaDiM": values}).splitlines()
    assert header.count("|") == line.count("|") == row.count("|") == len(COLUMNS) + 2
    assert row.startswith("| PaDiM | 1,234.568 |  | 1,234.568 |")
