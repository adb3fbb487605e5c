"""Cutting photographs into tiles, and putting maps together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomap.data.tiles import Stitch, Tiling, TrainingWindows, shrunk, stitched

SIDES = st.integers(1, 200)
TILINGS = st.builds(Tiling, st.integers(4, 40), st.floats(0, 0.75))


@settings(deadline=None)  # a busy machine
@given(TILINGS, SIDES, SIDES)
def test_every_pixel_is_covered_and_neighbours_overlap_as_asked(tiling: Tiling, height: int, width: int) -> None:
    covered = np.zeros((height, width), int)
    for y, x in tiling.grid((height, width)):
        covered[y : y + tiling.tile, x : x + tiling.tile] += 1
    assert covered.min() >= 1
    for side in (height, width):
        starts = tiling.starts(side)
        assert starts[0] == 0
        assert starts[-1] == max(0, side - tiling.tile)  # shifted inwards, not padded
        assert (np.diff(starts) <= max(1, np.ceil(tiling.tile * (1 - tiling.overlap)))).all()
    assert tiling.count((height, width)) == len(tiling.grid((height, width)))


def test_no_more_tiles_than_needed() -> None:
    assert Tiling(256, 0.25).starts(256).tolist() == [0]
    assert Tiling(256, 0.25).starts(448).tolist() == [0, 192]
    assert Tiling(256, 0.25).starts(449).tolist() == [0, 96, 193]
    assert Tiling(256, 0.0).count((1024, 2048)) == 32


@pytest.mark.thorough
@settings(max_examples=50, deadline=None)
@given(TILINGS, SIDES, SIDES)
def test_blending_gives_back_a_map_that_all_tiles_agree_on(tiling: Tiling, height: int, width: int) -> None:
    truth = np.random.default_rng(0).integers(0, 255, (2, height, width)).astype(np.uint8)
    found = stitched(lambda tiles, look: {"map": tiles.astype(np.float32)}, truth, tiling)["map"]
    np.testing.assert_allclose(found, truth, atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(TILINGS, SIDES, SIDES)
def test_a_blended_value_lies_between_those_of_its_tiles(tiling: Tiling, height: int, width: int) -> None:
    numbers = iter(range(10**6))
    found = stitched(
        lambda tiles, look: {"map": np.stack([np.full((1, *t.shape[1:]), next(numbers), np.float32) for t in tiles])},
        np.zeros((1, height, width), np.uint8),
        tiling,
    )["map"][0]
    lowest, highest = np.full((height, width), np.inf), np.full((height, width), -np.inf)
    for number, (y, x) in enumerate(tiling.grid((height, width))):
        part = np.s_[y : y + tiling.tile, x : x + tiling.tile]
        lowest[part], highest[part] = np.minimum(lowest[part], number), np.maximum(highest[part], number)
    assert (found >= lowest - 1e-2).all()
    assert (found <= highest + 1e-2).all()


def test_no_seam_where_tiles_disagree() -> None:
    """From one tile's value to the next the map goes in small steps, over half of the overlap of 16 pixels."""
    tiling, values = Tiling(64, 0.25), iter([0.0, 1.0, 0.0])
    stitch = Stitch(tiling, (64, 160))
    for window in tiling.grid((64, 160)):
        stitch.add(window.tolist(), np.full((1, 64, 64), next(values), np.float32))
    row = stitch.finish()[0, 30]
    assert np.abs(np.diff(row)).max() <= 1 / 8 + 1e-6
    assert row[0] == 0
    assert row[80] == 1


@pytest.mark.parametrize("length", [64, 160, 256])
def test_the_edge_of_a_tile_counts_only_where_the_photograph_ends(length: int) -> None:
    """Each tile is wrong in its outermost four pixels; where a neighbour covers them, none of it is seen."""
    plane, tiling = np.ones((1, 64, 64), np.float32), Tiling(64, 0.25)
    plane[0, 4:-4, 4:-4] = 0
    stitch = Stitch(tiling, (64, length))
    for window in tiling.grid((64, length)):
        stitch.add(window.tolist(), plane)
    row = stitch.finish()[0, 30]
    assert row[:4].tolist() == row[-4:].tolist() == [1, 1, 1, 1]
    assert row[4:-4].max() == 0


def test_a_photograph_smaller_than_a_tile_is_continued() -> None:
    image = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    tile = Tiling(4).cut(image, np.array([[0, 0]]))[0, 0]
    assert tile.tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]


def test_training_windows_are_drawn_afresh_and_can_be_drawn_again() -> None:
    windows = TrainingWindows(Tiling(32, 0.25), np.array([[100, 80], [32, 200], [20, 20]]), seed=3)
    first, again, next_epoch = windows.at(5), windows.at(5), windows.at(6)
    np.testing.assert_array_equal(first, again)
    assert len(first) == len(windows) == sum(Tiling(32, 0.25).count(s) for s in ((100, 80), (32, 200), (20, 20)))
    assert (first[:, 2:] != next_epoch[:, 2:]).any()
    assert (first[:, :2] == next_epoch[:, :2]).all()  # which photograph an example is cut from stays
    for _, owner, y, x, shrink in first:
        assert shrink == 1
        height, width = windows.shapes[owner]
        assert 0 <= y <= max(0, height - 32)
        assert 0 <= x <= max(0, width - 32)


def test_training_windows_reach_every_place() -> None:
    windows = TrainingWindows(Tiling(8, 0.0), np.array([[16, 16]]))
    seen = {tuple(place) for epoch in range(400) for place in windows.at(epoch)[:, 2:4].tolist()}
    assert seen == {(y, x) for y in range(9) for x in range(9)}


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_weights_of_an_axis_add_up(overlap: float) -> None:
    tiling = Tiling(50, overlap)
    stitch = Stitch(tiling, (50, 333))
    for window in tiling.grid((50, 333)):
        stitch.add(window.tolist(), np.ones((1, 50, 50), np.float32))
    np.testing.assert_allclose(stitch.finish(), 1, atol=1e-5)


LOOKS = Tiling(8, 0.25, (1, 2, 4))


def test_a_shrunk_image_has_the_mean_of_each_square() -> None:
    image = np.array([[[0, 4, 9, 9], [0, 0, 9, 9]]], np.uint8)
    np.testing.assert_array_equal(shrunk(image, 2), [[[1, 9]]])
    assert shrunk(image, 1) is image


def test_each_look_sees_the_whole_photograph_at_its_own_scale() -> None:
    """Of a photograph of 4 x 4 tiles: one tile of it all, then more and more of less and less."""
    photograph = np.random.default_rng(0).integers(0, 255, (1, 32, 32)).astype(np.uint8)
    seen: dict[int, list[np.ndarray]] = {}
    stitched(lambda tiles, look: seen.setdefault(look, []).extend(tiles) or {}, photograph, LOOKS)
    assert [len(seen[look]) for look in range(3)] == [1, 9, 25]
    assert LOOKS.count((32, 32)) == 35
    np.testing.assert_array_equal(seen[0][0], shrunk(photograph, 4))
    np.testing.assert_array_equal(seen[1][0], shrunk(photograph, 2)[:, :8, :8])
    np.testing.assert_array_equal(seen[1][-1], shrunk(photograph, 2)[:, -8:, -8:])
    np.testing.assert_array_equal(seen[2][-1], photograph[:, -8:, -8:])


def test_the_map_of_several_looks_is_their_mean_at_the_size_of_the_finest() -> None:
    photograph = np.zeros((1, 32, 32), np.uint8)
    found = stitched(
        lambda tiles, look: {"map": np.full((len(tiles), 2, 8, 8), look + 1, np.float32)}, photograph, LOOKS
    )["map"]
    assert found.shape == (2, 32, 32)
    np.testing.assert_allclose(found, 2, atol=1e-5)


def test_the_parts_of_looks_have_their_own_names() -> None:
    assert LOOKS.named(["density", "map"]) == ("density", "map", "density_x2", "map_x2", "density_x4", "map_x4")
    assert LOOKS.named(["map"], 1) == ("map_x2",)
    assert Tiling(8).named(["map"]) == ("map",)
    assert Tiling(8, 0.25, (1, 3)).shrinks == (3, 1)


def test_training_draws_every_look_equally_often_and_inside_of_it() -> None:
    windows = TrainingWindows(LOOKS, np.array([[32, 32]] * 40), seed=1)
    assert len(windows) == 40 * 35
    drawn = np.concatenate([windows.at(epoch) for epoch in range(3)])
    shares = [(drawn[:, 4] == shrink).mean() for shrink in LOOKS.shrinks]
    np.testing.assert_allclose(shares, 1 / 3, atol=0.03)
    for shrink in LOOKS.shrinks:
        places = drawn[drawn[:, 4] == shrink][:, 2:4]
        assert places.min() == 0
        assert places.max() == 32 // shrink - 8
    np.testing.assert_array_equal(windows.at(1), windows.at(1))
