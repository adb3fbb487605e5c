"""Whole solar modules put together from the single cells of ELPV: real photographs in tiles, one bad cell to be found in each.

    python scripts/mosaics.py modules                               # makes modules/{train,test,ground_truth}/...
    anomap-train data=folder data.root=modules data.tile=auto

ELPV has cut its modules into cells and does not say which belonged together, so cells of one kind are laid out at random, each
normal training cell once. A module of `test/mono` or `test/poly` has one defective cell; its mask is that whole cell, since
ELPV says no more. Needs the package elpv-dataset (CC BY-NC-SA 4.0): do not pass the modules on without its licence.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from anomap.data.layouts.elpv import ElpvLayout
from anomap.data.samples import ABNORMAL, NORMAL, Sample
from anomap.errors import UserError

KINDS = ("mono", "poly")
GRID = (3, 4)  # rows and columns of cells
SIDE = 300  # pixels of a cell
GAP = 8  # dark pixels around each


def make(
    root: Path,
    grid: tuple[int, int] = GRID,
    normal: int = 1000,
    each: int = 30,
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
) -> None:
    """Write a data set in the layout of `data=folder`; the same for the same seed.

    Args:
        root: where to; made if missing.
        grid: rows and columns of cells in a module.
        normal: modules of normal cells of each kind at most, to train on and to test; there are cells for about 50 and 15.
        each: modules of each kind with one defective cell.
        kinds: of `KINDS`.
        seed: of which cells lie together.
    """
    count = grid[0] * grid[1]
    for kind in kinds:
        rng = np.random.default_rng([seed, KINDS.index(kind)])
        found = ElpvLayout(cells=kind).scan()
        training, good, bad = (
            [samples[k] for k in rng.permutation(len(samples))]
            for samples in (found.train, _of(found.test, NORMAL), _of(found.test, ABNORMAL))
        )
        for split, cells in (("train", training), ("test", good)):
            for number in range(min(normal, len(cells) // count)):
                some = cells[number * count : (number + 1) * count]
                _save(root / split / "good" / f"{kind}{number:02d}.png", _module(some, grid))
        for number, cell in enumerate(bad[:each]):
            place = int(rng.integers(count))
            some = [good[k] for k in rng.choice(len(good), count, replace=False)]
            some[place] = cell
            _save(root / "test" / kind / f"{number:02d}.png", _module(some, grid))
            _save(root / "ground_truth" / kind / f"{number:02d}_mask.png", _mask(place, grid))


def _of(samples: Sequence[Sample], label: int) -> list[Sample]:
    return [sample for sample in samples if sample.label == label]


def _corners(grid: tuple[int, int]) -> list[tuple[int, int]]:
    """Top and left of each cell, row by row."""
    return [
        (GAP + row * (SIDE + GAP), GAP + column * (SIDE + GAP)) for row in range(grid[0]) for column in range(grid[1])
    ]


def _empty(grid: tuple[int, int]) -> np.ndarray:
    return np.zeros([GAP + cells * (SIDE + GAP) for cells in grid], np.uint8)


def _module(cells: Sequence[Sample], grid: tuple[int, int]) -> np.ndarray:
    module = _empty(grid)
    for (top, left), cell in zip(_corners(grid), cells, strict=True):
        assert cell.path is not None
        module[top : top + SIDE, left : left + SIDE] = np.array(Image.open(cell.path))
    return module


def _mask(place: int, grid: tuple[int, int]) -> np.ndarray:
    mask, (top, left) = _empty(grid), _corners(grid)[place]
    mask[top : top + SIDE, left : left + SIDE] = 255
    return mask


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def main() -> None:
    """Make what the command line asks for, and say how to train on it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path, help="folder of the data set")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of cells")
    parser.add_argument("--rows", type=int, default=GRID[0], help="of cells in a module")
    parser.add_argument("--columns", type=int, default=GRID[1])
    parser.add_argument("--normal", type=int, default=1000, help="modules of normal cells of each kind, at most")
    parser.add_argument("--each", type=int, default=30, help="modules of each kind with one defective cell")
    parser.add_argument("--seed", type=int, default=0, help="of which cells lie together")
    asked = parser.parse_args()
    if not (asked.rows > 0 < asked.columns and asked.rows * asked.columns <= 100):
        parser.error("--rows and --columns: at least 1, and 100 cells in a module at most: there are 130 to test on")
    make(asked.root, (asked.rows, asked.columns), asked.normal, asked.each, asked.kinds, asked.seed)
    print(f"anomap-train data=folder data.root={asked.root} data.tile=auto")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
