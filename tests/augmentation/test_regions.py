"""Shapes: range, size, place, and the same shapes at every resolution."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anomap.augmentation.random import Draw
from anomap.augmentation.regions import Blob, Crack, Rectangle, Region, Scar, Whole
from anomap.errors import UserError

REGIONS: dict[str, Region] = {
    "rectangle": Rectangle(edge=(0.0, 0.03)),
    "scar": Scar(),
    "blob": Blob(),
    "crack": Crack(),
    "whole": Whole(),
}
LOCAL = [name for name in REGIONS if name != "whole"]


def draws(count: int, seed: int = 0) -> Draw:
    return Draw.at(seed, 0, torch.arange(count))


@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize("shape", [(32, 32), (100, 64), (33, 47), (256, 256), (8, 8)])
def test_every_shape_is_a_soft_mask(name: str, shape: tuple[int, int]) -> None:
    region = REGIONS[name](draws(40), shape)
    assert region.shape == (40, 1, *shape)
    assert region.dtype == torch.float32
    assert region.min() >= 0.0
    assert region.max() <= 1.0
    assert (region.amax((1, 2, 3)) > 0.5).float().mean() > 0.9  # nearly always something to be seen


@pytest.mark.parametrize("name", REGIONS)
def test_no_samples_give_no_shapes(name: str) -> None:
    assert REGIONS[name](draws(0), (16, 16)).shape == (0, 1, 16, 16)


@pytest.mark.parametrize("name", LOCAL)
def test_shapes_differ_from_sample_to_sample(name: str) -> None:
    region = REGIONS[name](draws(20), (64, 64))
    assert len(torch.unique(region.flatten(1), dim=0)) == 20


@pytest.mark.thorough
@pytest.mark.parametrize("name", LOCAL)
def test_small_and_large_images_get_the_same_share(name: str) -> None:
    small, large = (REGIONS[name](draws(200), (size, size)).mean().item() for size in (128, 256))
    assert small == pytest.approx(large, rel=0.35)


@pytest.mark.parametrize("name", REGIONS)
@settings(max_examples=20, deadline=None)
@given(order=st.permutations(list(range(9))), cut=st.integers(1, 8))
def test_shapes_do_not_depend_on_companions(name: str, order: list[int], cut: int) -> None:
    draw = draws(9)
    rows = torch.tensor(order)
    whole = REGIONS[name](draw, (40, 56))
    parts = [REGIONS[name](draw.select(part), (40, 56)) for part in rows.split([cut, 9 - cut])]
    torch.testing.assert_close(torch.cat(parts), whole[rows], rtol=0, atol=1e-4)


def test_rectangle_has_the_area_and_lies_inside() -> None:
    region = Rectangle(area=(0.02, 0.15), aspect=(0.3, 3.3))(draws(500), (128, 128))
    assert set(region.unique().tolist()) == {0.0, 1.0}
    share = region.mean((1, 2, 3))
    assert share.min() >= 0.02 * 0.93
    assert share.max() <= 0.15 * 1.05
    rows, columns = region.amax(3).sum((1, 2)), region.amax(2).sum((1, 2))
    assert torch.equal(rows * columns, region.sum((1, 2, 3)))  # full rectangles
    assert (columns / rows).min() < 0.4
    assert (columns / rows).max() > 2.5


SIZES = {
    "rectangle": lambda size: Rectangle(area=(size, size), edge=(0.0, 0.03)),
    "scar": lambda size: Scar(length=(4 * size**0.5,) * 2, width=(size**0.5 / 4,) * 2),
    "blob": lambda size: Blob(area=(size, size)),
}


@pytest.mark.parametrize("name", SIZES)
def test_a_speck_is_small_solid_and_never_empty(name: str) -> None:
    """0.05 % of 256 x 256 px are 33 px: no soft edge may veil more than that, nor leave nothing of it."""
    region = SIZES[name](0.0005)(draws(100), (256, 256))
    assert (region.amax((1, 2, 3)) > 0.9).all()
    covered = (region > 0.1).sum((1, 2, 3)).float()
    assert covered.min() >= 4
    assert 20 < covered.median() < 70
    assert covered.quantile(0.95) < 150


@pytest.mark.parametrize("shape", [(32, 32), (64, 48)])
@pytest.mark.parametrize("name", SIZES)
def test_the_smallest_speck_of_a_small_image_is_a_few_pixels(name: str, shape: tuple[int, int]) -> None:
    covered = (SIZES[name](0.0005)(draws(100), shape) > 0.3).sum((1, 2, 3))
    assert covered.min() >= 2
    assert covered.float().median() <= 12


@pytest.mark.parametrize("name", LOCAL)
def test_sizes_are_log_uniform_down_to_specks(name: str) -> None:
    """About as many regions in each decade of area: no size is drawn so seldom that nothing learns it."""
    share = (REGIONS[name](draws(240), (256, 256)) > 0.3).float().mean((1, 2, 3))
    assert share.quantile(0.02) < 0.001
    assert share.max() > {"rectangle": 0.12, "scar": 0.015, "blob": 0.15, "crack": 0.02}[name]
    small = (share < {"rectangle": 0.0087, "scar": 0.004, "blob": 0.01, "crack": 0.004}[name]).float().mean().item()
    assert small == pytest.approx(0.5, abs=0.15)


def test_short_cracks_reach_every_part_of_the_image() -> None:
    cracks = Crack(length=(0.1, 0.1), branch=0.0)(draws(800), (64, 64)) > 0.3
    quarter = cracks.view(800, 4, 16, 4, 16).any(4).any(2).float().mean(0)
    assert quarter.min() > 0.02


def test_rectangle_may_be_cut_off_by_the_border() -> None:
    region = Rectangle(area=(0.25, 0.25), aspect=(1, 1), inside=False)(draws(400), (64, 64))
    sides = torch.stack([region.amax(3).sum((1, 2)), region.amax(2).sum((1, 2))])
    assert sides.max() == 32
    assert sides.min() >= 16  # the centre stays inside
    assert ((sides == 32).all(0)).float().mean().item() == pytest.approx(0.25, abs=0.1)


def test_whole_is_everything() -> None:
    assert torch.equal(Whole()(draws(2), (5, 7)), torch.ones(2, 1, 5, 7))


def test_scar_is_long_thin_and_turned() -> None:
    scar = Scar(length=(0.5, 0.5), width=(0.04, 0.04), angle=(45, 45), edge=(0, 0))(draws(50), (128, 128))
    assert scar.sum((1, 2, 3)).tolist() == pytest.approx([64 * 5.12] * 50, rel=0.08)
    height, width = (scar > 0.5).any(3).sum((1, 2)), (scar > 0.5).any(2).sum((1, 2))
    assert (height - 49).abs().max() <= 3  # (64 + 5.12) / sqrt(2)
    assert (width - 49).abs().max() <= 3


def test_scar_lies_inside() -> None:
    scar = Scar(edge=(0, 0))(draws(300), (64, 64))
    border = torch.ones(64, 64, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    # A scar that was cut off would cover border pixels with its full width and miss part of its area.
    assert (scar[:, 0, border].sum(1) < 0.5 * scar.sum((1, 2, 3))).all()


def test_blob_area_follows_the_range() -> None:
    for area in (0.05, 0.3):
        share = (Blob(area=(area, area), edge=(0, 0))(draws(100), (128, 128)) > 0.5).float().mean((1, 2, 3))
        assert share.mean().item() == pytest.approx(area, rel=0.1)
        assert share.std() < 0.25 * area


def test_blob_octaves_set_the_size_of_the_pieces() -> None:
    def transitions(octave: int) -> float:
        blob = Blob(area=(0.2, 0.2), octaves=(octave, octave), edge=(0, 0))(draws(60), (256, 256)) > 0.5
        return (blob[..., 1:] != blob[..., :-1]).float().mean().item()

    assert transitions(0) < transitions(2) < transitions(4)
    assert transitions(5) > 4 * transitions(1)


def test_crack_is_a_connected_line_of_about_its_length() -> None:
    cracks = Crack(length=(0.5, 0.5), width=(0.03, 0.03), bend=(0, 0.2), branch=0.0)(draws(60), (128, 128)) > 0.3
    for crack in cracks[:, 0]:
        points = crack.nonzero().float()
        distance = torch.cdist(points, points)
        assert distance.max() > 50  # 64 px between the ends, less what lies outside
        # Flood fill from one pixel reaches all: neighbours at most a diagonal apart.
        near = (distance < 2.3).float()
        reached = near[0]
        for _ in range(len(points)):
            further = ((near @ reached) > 0).float()
            if torch.equal(further, reached):
                break
            reached = further
        assert reached.mean() > 0.95
    share = cracks.float().mean((1, 2, 3))
    assert share.max() < 0.05


def test_crack_width_follows_the_range_and_never_vanishes() -> None:
    thin = Crack(width=(1e-4, 1e-4), branch=0.0)(draws(50), (64, 64))
    wide = Crack(width=(0.1, 0.1), branch=0.0)(draws(50), (64, 64))
    assert (thin.amax((1, 2, 3)) > 0.7).all()
    assert wide.sum() > 2 * thin.sum()


def test_branches_add_to_the_line() -> None:
    without = Crack(branch=0.0)(draws(50), (64, 64))
    always = Crack(branch=1.0)(draws(50), (64, 64))
    assert (always >= without).all()
    assert (always.sum((1, 2, 3)) > without.sum((1, 2, 3))).float().mean() > 0.9


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Rectangle(area=(0.3, 0.1)), "Rectangle.area"),
        (lambda: Rectangle(area=(0.1, 1.5)), "Rectangle.area"),
        (lambda: Scar(length=(0.1,)), "Scar.length"),  # pyright: ignore[reportArgumentType]
        (lambda: Blob(octaves=(0, 9)), "Blob.octaves"),
        (lambda: Crack(branch=2.0), "Crack.branch"),
        (lambda: Whole(weight=-1.0), "Whole.weight"),
        (lambda: Rectangle(area=(0.1, float("nan"))), "Rectangle.area"),
    ],
)
def test_wrong_numbers_are_named_in_one_line(build, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        build()
    assert "\n" not in str(caught.value)
