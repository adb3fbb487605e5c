"""Modules put together from cells: every cell is where it should be, and the mask is on the only one that is bad."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anomap.data.layouts.elpv import ElpvLayout
from anomap.data.samples import ABNORMAL

pytest.importorskip("elpv_dataset")
sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import mosaics


def read(path: Path) -> np.ndarray:
    return np.array(Image.open(path))


def test_one_cell_of_a_bad_module_is_bad_and_it_is_the_one_that_is_marked(tmp_path: Path) -> None:
    mosaics.make(tmp_path, grid=(2, 2), normal=2, each=2, kinds=["mono"])
    found = ElpvLayout(cells="mono").scan()
    cells = {read(s.path).tobytes(): s for s in found.test if s.path}
    training = {read(s.path).tobytes() for s in found.train if s.path}
    corners = [(top, left) for top in (8, 316) for left in (8, 316)]

    def cell(plane: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
        return plane[corner[0] : corner[0] + 300, corner[1] : corner[1] + 300]

    for path in sorted(tmp_path.glob("test/mono/*.png")):
        module, mask = read(path), read(tmp_path / f"ground_truth/mono/{path.stem}_mask.png")
        assert module.shape == mask.shape == (624, 624)
        bad = [cells[cell(module, corner).tobytes()].label == ABNORMAL for corner in corners]
        marked = [bool(cell(mask, corner).all()) for corner in corners]
        assert sum(bad) == 1
        assert bad == marked
        assert (mask > 0).sum() == 300 * 300
    shown = [cell(read(path), corner).tobytes() for path in tmp_path.glob("train/good/*.png") for corner in corners]
    assert len(shown) == len({*shown}) == 8
    assert {*shown} <= training


def test_the_same_seed_gives_the_same_modules(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        mosaics.make(tmp_path / name, grid=(1, 2), normal=1, each=1, kinds=["poly"], seed=seed)
    first, second, other = ([path.read_bytes() for path in sorted((tmp_path / name).rglob("*.png"))] for name in "abc")
    assert first == second != other
