"""Maps of photographs that show the same thing at the same place."""

import json
from base64 import b64encode

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from anomap.data.aligned import check_aligned
from anomap.data.registration import agreement, laid_out, moved, outlines
from anomap.data.tiles import Tiling
from anomap.detection.places import SOFT, UNKNOWN, Places, cells, compare, learned, nothing, of_maps, standardise
from anomap.errors import UserError
from tests.data.test_registration import lie

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
    level, spread = of_maps([first, second])
    whole = 4.0 * (1 / 96) * (1 - 1 / 96) * 4 + 1 / 96  # variance of the means, and the mean of the variances
    near = np.zeros((8, 12), bool)
    near[1:4, 3:6] = True
    np.testing.assert_array_equal(level, np.where(near, 4.0, 0.0))
    np.testing.assert_allclose(spread**2, near * 1.0 + SOFT**2 * whole, rtol=1e-5)


def test_what_half_of_the_photographs_do_not_show_is_not_judged() -> None:
    maps = np.random.default_rng(0).normal(size=(9, 64, 64)).astype(np.float32)
    maps[:5, :, :16] = np.nan
    maps[:4, :, 48:] = np.nan
    _, spread = of_maps(maps)
    assert (spread[:, :2] == UNKNOWN).all()
    assert (spread[:, 2:] < 10).all()


def test_a_rare_part_at_its_place_is_normal_and_anywhere_else_is_not() -> None:
    level, spread = of_maps(_maps(20, seed=0))
    normal = [standardise(plane, level, spread) for plane in _maps(20, seed=1)]
    moved = [standardise(np.roll(plane, 40, axis=1), level, spread) for plane in _maps(20, seed=2)]
    faint = _maps(20, seed=3)
    for plane in faint:  # far below the part
        plane[45:53, 8:16] += 12
    found = [standardise(plane, level, spread) for plane in faint]
    assert max(normal) < min(moved)
    assert max(normal) < min(found)


def test_the_score_is_the_mean_of_the_ten_highest_cells() -> None:
    plane = np.zeros(SHAPE, np.float32)
    plane[:8, : 5 * 8] = 2  # five cells
    level, spread = np.zeros((8, 12), np.float32), np.full((8, 12), 0.5, np.float32)
    whole = plane.copy()
    assert standardise(whole, level, spread) == 2
    np.testing.assert_allclose(whole, 2 * plane)
    few = standardise(plane[:8, :8], level[:1, :1], spread[:1, :1])  # of fewer cells than are averaged
    assert few == 4


@pytest.mark.parametrize(("height", "width"), [(64, 96), (61, 90), (7, 5), (300, 30)])
def test_grids_are_enlarged_as_torch_does(height: int, width: int) -> None:
    grid = np.random.default_rng(0).normal(size=(8, 12)).astype(np.float32)
    expected = F.interpolate(torch.from_numpy(grid)[None, None], (height, width), mode="bilinear")[0, 0]
    nothing, one = np.zeros((height, width), np.float32), np.ones((height, width), np.float32)
    standardise(nothing, grid, np.ones_like(grid))
    np.testing.assert_allclose(-nothing, expected.numpy(), atol=1e-5)
    standardise(one, np.zeros((1, 1), np.float32), grid[:1, :1])  # of a single cell
    assert one == pytest.approx(1 / grid[0, 0])


def test_cells_at_the_border_are_not_lost() -> None:
    plane = np.zeros((20, 9), np.float32)
    plane[19, 8] = 1
    assert cells(plane).shape == (3, 2)
    assert cells(plane)[2, 1] == 1


def _boards(count: int, seed: int, furthest: float = 12) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Photographs (1, H, W) of one board, each laid down a little otherwise, and maps with a rare part at one place of it."""
    rng, photographs, maps = np.random.default_rng(seed), [], []
    board = np.random.default_rng(0).normal(size=(240, 320)).astype(np.float32)
    board = 128 + 30 * gaussian_filter(board, 3) / gaussian_filter(board, 3).std()
    rare = np.zeros_like(board)
    rare[100:106, 150:156] = 30
    for _ in range(count):
        laid = lie(board.shape, rng.uniform(-1, 1) * np.deg2rad(0.8), rng.uniform(-furthest, furthest, 2))
        shown = moved(board, laid) + rng.normal(0, 3, board.shape)
        photographs.append(np.clip(shown[20:220, 20:300], 0, 255).astype(np.uint8)[None])
        maps.append((moved(rare, laid) + rng.normal(0, 1, board.shape)).astype(np.float32)[20:220, 20:300].copy())
    return photographs, maps


def test_a_photograph_is_compared_as_it_lies() -> None:
    """A rare part moves with the board by more than the neighbours of a cell: it stays normal, and a faint spot is found."""
    places = learned(*_boards(20, seed=1))
    as_it_lies = Places(places.level, places.spread, *nothing())
    photographs, maps = _boards(20, seed=2)
    spoiled = [plane.copy() for plane in maps]
    for plane in spoiled:
        plane[160:168, 60:68] += 20

    def scores(planes: list[np.ndarray], known: Places) -> list[float]:
        return [compare(plane.copy(), one, known) for one, plane in zip(photographs, planes, strict=True)]

    assert max(scores(maps, places)) < min(scores(spoiled, places))
    assert max(scores(maps, as_it_lies)) > min(scores(spoiled, as_it_lies))


def test_what_does_not_belong_there_is_seen_where_the_map_sees_nothing() -> None:
    """A spot whose like is elsewhere on the board, in another light; the comparison marks it, and little else."""
    places = learned(*_boards(20, seed=1))
    photographs, maps = _boards(10, seed=2)
    normal, found = [], []
    for one, plane in zip(photographs, maps, strict=True):
        normal.append(compare(plane.copy(), one, places))
        lit = one * 0.9 + np.linspace(0, 20, one.shape[2])
        spot = lit.copy()
        spot[:, 160:168, 60:68] += 50
        z = plane.copy()
        found.append(compare(z, np.clip(spot, 0, 255).astype(np.uint8), places))
        inside = np.zeros(z.shape, bool)
        inside[158:170, 58:70] = True
        assert z[inside].max() > 2 * z[~inside].max()
    assert max(normal) < min(found)


@pytest.mark.parametrize("exposure", [0.75, 1.15])
def test_another_exposure_is_no_defect(exposure: float) -> None:
    places = learned(*_boards(20, seed=1))
    for one, plane in zip(*_boards(3, seed=2), strict=True):
        lit = np.clip(128 + exposure * (one.astype(np.float32) - 128), 0, 255).astype(np.uint8)
        assert compare(plane.copy(), lit, places) < 1.2 * compare(plane.copy(), one, places)


def test_each_channel_is_compared() -> None:
    rng = np.random.default_rng(0)
    board = gaussian_filter(rng.normal(size=(3, 200, 280)), (0, 3, 3)) * 800 + 128

    def photographs(count: int) -> list[np.ndarray]:
        return [np.clip(board + rng.normal(0, 3, board.shape), 0, 255).astype(np.uint8) for _ in range(count)]

    blank = np.zeros((200, 280), np.float32)
    places = learned(photographs(12), [blank] * 12)
    normal, stained = photographs(1)[0], photographs(1)[0].astype(int)
    stained[0, 80:90, 80:90] += 30
    stained[1, 80:90, 80:90] -= 30  # as bright as before
    assert compare(blank.copy(), np.clip(stained, 0, 255).astype(np.uint8), places) > 2 * compare(
        blank.copy(), normal, places
    )


def test_metadata_gives_back_the_same_places() -> None:
    places = learned(*_boards(3, seed=0))
    for kept, found in zip(places, Places.from_dict(json.loads(json.dumps(places.to_dict()))), strict=True):
        np.testing.assert_array_equal(kept, found)
    grids = [b64encode(grid.tobytes()).decode() for grid in places[:2]]
    older = Places.from_dict({"shape": [*places.level.shape], "grids": grids})  # knew the map alone
    np.testing.assert_array_equal(older.spread, places.spread)
    assert older.outlines.size == 0


def _photographs(count: int, jitter: int = 0, same: bool = True) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    board = F.interpolate(torch.rand(1, 1, 40, 48, generator=torch.Generator().manual_seed(0)), (160, 192))[0].numpy()
    made = []
    for _ in range(count):
        shown = np.roll(board, rng.integers(-jitter, jitter + 1, 2), (1, 2)) if same else rng.random((1, 160, 192))
        lit = shown * rng.uniform(0.7, 1.0) + np.linspace(0, rng.uniform(0, 0.3), 192)
        made.append((lit / 1.3 * 255).astype(np.uint8))
    return made


def _agreement(photographs: list[np.ndarray]) -> float:
    planes = [outlines(photograph) for photograph in photographs]
    return agreement(planes, laid_out(planes)[1])


def test_photographs_of_one_board_agree_and_others_do_not() -> None:
    board, apart, noise = _photographs(12), _photographs(12, jitter=12), _photographs(12, same=False)
    assert _agreement(board) == pytest.approx(1, abs=0.05)
    assert _agreement(apart) > 0.8
    assert abs(_agreement(noise)) < 0.1
    for tiling in (Tiling(64), None):
        assert check_aligned("auto", board, tiling)
        assert check_aligned("auto", apart, tiling)
        assert not check_aligned("auto", board[:5], tiling)  # too few to say what is normal at a place
        assert not check_aligned("auto", noise, tiling)
        assert not check_aligned("auto", [photograph[:, :100] for photograph in board], tiling)  # small images
        assert not check_aligned("auto", [*board[:11], board[11][:, :150]], tiling)
        assert not check_aligned(False, board, tiling)
    assert not check_aligned("auto", board, Tiling(64, scales=(1, 2)))  # for parts that move as well
    assert check_aligned(True, board, Tiling(64, scales=(1, 2)))
    for tiling in (Tiling(64), None):
        assert check_aligned(True, noise, tiling)
        with pytest.raises(UserError, match=r"data\.aligned=true: 2 sizes"):
            check_aligned(True, [board[0], board[1][:, :150]], tiling)


def test_grey_levels_are_compared_of_photographs_that_are_alike() -> None:
    """Others share a frame, and show something else in it each time: only whole images that are alike are compared by `auto`."""
    rng, frame, photographs = np.random.default_rng(0), _photographs(1)[0], []
    for _ in range(12):
        own = np.where(rng.random((1, 20, 24)).repeat(8, 1).repeat(8, 2) < 0.45, 0.6, 0.0)
        photographs.append((frame * (1 - own)).astype(np.uint8))
    assert 0.65 < _agreement(photographs) < 0.8
    assert check_aligned("auto", photographs, Tiling(64))
    assert not check_aligned("auto", photographs, None)
    maps = [rng.normal(0, 1, frame.shape[1:]).astype(np.float32) for _ in photographs]
    places = learned(photographs, maps)
    assert places.outlines.size
    assert not places.grey.size
    alone = maps[0].copy()
    compare(alone, photographs[0], places)
    assert alone.min() < 0  # the map's standard deviations as they are
