"""Maps of photographs that show the same thing at the same place."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from anomap.data.photographs import agreement, check_aligned
from anomap.detection.places import SOFT, cells, compare, from_plain, learned, plain
from anomap.errors import UserError

SHAPE = (64, 96)


def _maps(count: int, seed: int) -> list[np.ndarray]:
    """Noise, and a part that is rare on each photograph, at about the same place."""
    rng, maps = np.random.default_rng(seed), []
    for _ in range(count):
        plane = rng.normal(0, 1, SHAPE).astype(np.float32)
        y, x = 20 + rng.integers(-2, 3), 40 + rng.integers(-2, 3)
        plane[y : y + 6, x : x + 6] += 30
        maps.append(plane)
    return maps


def test_level_and_spread_are_those_of_a_cell_and_its_neighbours() -> None:
    first, second = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.float32)
    first[17, 33], second[17, 33] = 3, 5  # of the cell (2, 4)
    level, spread = learned([first, second])
    whole = 4.0 * (1 / 96) * (1 - 1 / 96) * 4 + 1 / 96  # variance of the means, and the mean of the variances
    near = np.zeros((8, 12), bool)
    near[1:4, 3:6] = True
    np.testing.assert_array_equal(level, np.where(near, 4.0, 0.0))
    np.testing.assert_allclose(spread**2, near * 1.0 + SOFT**2 * whole, rtol=1e-5)


def test_a_rare_part_at_its_place_is_normal_and_anywhere_else_is_not() -> None:
    level, spread = learned(_maps(20, seed=0))
    normal = [compare(plane, level, spread) for plane in _maps(20, seed=1)]
    moved = [compare(np.roll(plane, 40, axis=1), level, spread) for plane in _maps(20, seed=2)]
    faint = _maps(20, seed=3)
    for plane in faint:  # far below the part
        plane[45:53, 8:16] += 12
    found = [compare(plane, level, spread) for plane in faint]
    assert max(normal) < min(moved)
    assert max(normal) < min(found)


def test_the_score_is_the_mean_of_the_ten_highest_cells() -> None:
    plane = np.zeros(SHAPE, np.float32)
    plane[:8, : 5 * 8] = 2  # five cells
    level, spread = np.zeros((8, 12), np.float32), np.full((8, 12), 0.5, np.float32)
    whole = plane.copy()
    assert compare(whole, level, spread) == 2
    np.testing.assert_allclose(whole, 2 * plane)
    few = compare(plane[:8, :8], level[:1, :1], spread[:1, :1])  # of fewer cells than are averaged
    assert few == 4


@pytest.mark.parametrize(("height", "width"), [(64, 96), (61, 90), (7, 5), (300, 30)])
def test_grids_are_enlarged_as_torch_does(height: int, width: int) -> None:
    grid = np.random.default_rng(0).normal(size=(8, 12)).astype(np.float32)
    expected = F.interpolate(torch.from_numpy(grid)[None, None], (height, width), mode="bilinear")[0, 0]
    nothing, one = np.zeros((height, width), np.float32), np.ones((height, width), np.float32)
    compare(nothing, grid, np.ones_like(grid))
    np.testing.assert_allclose(-nothing, expected.numpy(), atol=1e-5)
    compare(one, np.zeros((1, 1), np.float32), grid[:1, :1])  # of a single cell
    assert one == pytest.approx(1 / grid[0, 0])


def test_cells_at_the_border_are_not_lost() -> None:
    plane = np.zeros((20, 9), np.float32)
    plane[19, 8] = 1
    assert cells(plane).shape == (3, 2)
    assert cells(plane)[2, 1] == 1


def test_metadata_gives_back_the_same_numbers() -> None:
    grids = learned(_maps(3, seed=0))
    for kept, found in zip(grids, from_plain(json.loads(json.dumps(plain(*grids)))), strict=True):
        np.testing.assert_array_equal(kept, found)


def _photographs(count: int, jitter: int = 0, same: bool = True) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    board = F.interpolate(torch.rand(1, 1, 50, 60, generator=torch.Generator().manual_seed(0)), (400, 480))[0].numpy()
    made = []
    for _ in range(count):
        shown = np.roll(board, rng.integers(-jitter, jitter + 1, 2), (1, 2)) if same else rng.random((1, 400, 480))
        lit = shown * rng.uniform(0.7, 1.0) + np.linspace(0, rng.uniform(0, 0.3), 480)
        made.append((lit / 1.3 * 255).astype(np.uint8))
    return made


def test_photographs_of_one_board_agree_and_others_do_not() -> None:
    board, moved, noise = _photographs(12), _photographs(12, jitter=2), _photographs(12, same=False)
    assert agreement(board) == pytest.approx(1, abs=0.05)
    assert 0.5 < (agreement(moved) or 0) < 1
    assert abs(agreement(noise) or 0) < 0.1
    assert agreement([board[0], board[1][:, :300]]) is None
    assert check_aligned("auto", board)
    assert not check_aligned("auto", board[:5])  # too few to say what is normal at a place
    assert not check_aligned("auto", noise)
    assert not check_aligned(False, board)
    assert check_aligned(True, noise)
    with pytest.raises(UserError, match=r"data\.aligned=true: 2 sizes"):
        check_aligned(True, [board[0], board[1][:, :300]])
