"""Fills: every one changes a textured image, and each does what its name says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from anomap.augmentation.fills import (
    Blur,
    Cutout,
    Erase,
    Fill,
    Noise,
    PasteImage,
    PastePlace,
    Permute,
    Rotate,
    Shift,
)
from anomap.augmentation.random import Draw
from anomap.augmentation.sampling import blur, roll, take_pixels, turn
from anomap.errors import UserError

from .textures import TrainingImages, textured

FILLS: dict[str, Fill] = {
    "cutout": Cutout(),
    "noise": Noise(),
    "rotate": Rotate(),
    "permute": Permute(),
    "paste_place": PastePlace(),
    "paste_image": PasteImage(),
    "shift": Shift(),
    "blur": Blur(),
    "erase": Erase(),
}


def draws(count: int) -> Draw:
    return Draw.at(0, 0, torch.arange(count))


def everywhere(images: Tensor) -> Tensor:
    return torch.ones_like(images[:, :1])


@pytest.mark.parametrize("name", FILLS)
@pytest.mark.parametrize("size", [(1, 32, 32), (3, 32, 32), (3, 100, 64), (4, 33, 47), (1, 8, 8)])
def test_every_fill_changes_a_textured_image(name: str, size: tuple[int, int, int]) -> None:
    images = textured(40, *size)
    filled = FILLS[name](images, everywhere(images), draws(40), TrainingImages(textured(5, *size, seed=1)))
    assert filled.shape == images.shape
    assert torch.isfinite(filled).all()
    changed = (filled.clamp(0, 1) - images).abs().amax(1) > 0.03
    assert (changed.flatten(1).float().mean(1) > 0.1).float().mean() > 0.9


@pytest.mark.parametrize("name", FILLS)
def test_no_fill_changes_its_input(name: str) -> None:
    images, other = textured(6, 3, 32, 32), textured(5, 3, 32, 32, seed=1)
    kept, other_kept = images.clone(), other.clone()
    FILLS[name](images, everywhere(images), draws(6), TrainingImages(other))
    assert torch.equal(images, kept)
    assert torch.equal(other, other_kept)


def test_cutout_is_one_constant_of_the_range() -> None:
    images = textured(300, 3, 8, 8)
    grey = Cutout(dark=0.0, bright=0.0, level=(0.2, 0.4), tint=0.0)(images, everywhere(images), draws(300))
    assert torch.equal(grey, grey[:, :1, :1, :1].expand_as(grey))
    assert grey.min() >= 0.2
    assert grey.max() <= 0.4 + 1e-6
    extremes = Cutout(dark=0.5, bright=0.5, tint=0.0)(images, everywhere(images), draws(300))[:, 0, 0, 0]
    assert ((extremes < 0.15) | (extremes > 0.85)).all()
    assert (extremes < 0.15).float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_tint_is_for_colour_images_only() -> None:
    colour, grey = textured(20, 3, 4, 4), textured(20, 1, 4, 4)
    tinted = Cutout(tint=0.5)(colour, everywhere(colour), draws(20))
    assert (tinted.amax(1) - tinted.amin(1)).mean() > 0.05
    plain = Cutout(tint=0.0)(grey, everywhere(grey), draws(20))
    assert torch.equal(Cutout(tint=0.5)(grey, everywhere(grey), draws(20)), plain)


def test_noise_has_its_mean_deviation_and_grain() -> None:
    images = textured(30, 3, 64, 64)
    noise = Noise(level=(0.4, 0.4), deviation=(0.2, 0.2), grain=(0, 0), coloured=1.0)
    made = noise(images, everywhere(images), draws(30))
    assert made.mean().item() == pytest.approx(0.4, abs=0.01)
    assert made.std().item() == pytest.approx(0.2, abs=0.01)
    assert not torch.equal(made[:, 0], made[:, 1])
    coarse = Noise(grain=(4 / 64, 4 / 64), coloured=0.0)(images, everywhere(images), draws(30))
    assert torch.equal(coarse[:, 0], coarse[:, 2])
    blocks = coarse.view(30, 3, 16, 4, 16, 4)
    assert torch.equal(blocks, blocks[:, :, :, :1, :, :1].expand_as(blocks))


def test_right_angles_turn_the_image_exactly() -> None:
    images = textured(60, 1, 16, 16)
    turned = Rotate(right_angle=1.0)(images, everywhere(images), draws(60))
    quarters = torch.stack([torch.rot90(images, k, (2, 3)) for k in (1, 2, 3)])
    error = (quarters - turned).abs().amax((2, 3, 4))  # (3, B)
    assert error.amin(0).max() < 1e-3
    assert set(error.argmin(0).tolist()) == {0, 1, 2}


def test_rotation_is_about_the_region() -> None:
    images = textured(5, 1, 33, 33)
    region = torch.zeros(5, 1, 33, 33)
    region[:, :, 4:9, 20:25] = 1.0
    turned = Rotate(right_angle=1.0)(images, region, draws(5))
    torch.testing.assert_close(turned[:, :, 6, 22], images[:, :, 6, 22], rtol=0, atol=1e-4)  # the middle stays


def test_permute_keeps_the_pixels_and_moves_the_patches() -> None:
    images = textured(20, 1, 24, 24)
    moved = Permute(patches=(4, 4))(images, everywhere(images), draws(20))
    assert torch.equal(moved.flatten(1).sort(1).values, images.flatten(1).sort(1).values)
    patches = [part.unfold(2, 6, 6).unfold(3, 6, 6).reshape(20, 16, 36) for part in (images, moved)]
    for before, after in zip(*patches, strict=True):
        assert (torch.cdist(before, after) < 1e-6).sum() == 16  # each patch found again, whole


def test_permute_copes_with_more_patches_than_pixels() -> None:
    images = textured(3, 1, 5, 7)
    assert Permute(patches=(8, 8))(images, everywhere(images), draws(3)).shape == images.shape


def test_paste_place_is_another_place_of_the_same_image() -> None:
    images = textured(20, 3, 20, 30)
    pasted = PastePlace(shift=0.2, jitter=0.0)(images, everywhere(images), draws(20))
    for before, after in zip(images, pasted, strict=True):
        moves = [
            (down, right)
            for down in range(20)
            for right in range(30)
            if torch.allclose(torch.roll(before, (down, right), (1, 2)), after, atol=1e-5)
        ]
        assert len(moves) == 1
        assert 4 <= moves[0][0] <= 16
        assert 6 <= moves[0][1] <= 24


def test_paste_image_uses_the_donor_that_was_asked_for() -> None:
    donors = TrainingImages(textured(10, 3, 32, 32, seed=99))
    images = textured(50, 3, 32, 32)
    pasted = PasteImage(jitter=0.0)(images, everywhere(images), draws(50), donors)
    assert len(donors.asked) == 50
    assert set(donors.asked) == set(range(10))  # all get their turn
    for after, asked in zip(pasted, donors.asked, strict=True):
        torch.testing.assert_close(after.flatten(1).sort(1).values, donors.images[asked].flatten(1).sort(1).values)


@pytest.mark.parametrize(
    "bad", [None, TrainingImages(torch.zeros(0, 3, 32, 32)), TrainingImages(torch.zeros(4, 1, 32, 32))]
)
def test_paste_image_says_what_is_wrong_with_the_donors(bad: TrainingImages | None) -> None:
    images = textured(3, 3, 32, 32)
    with pytest.raises(ValueError, match="donors"):
        PasteImage()(images, everywhere(images), draws(3), bad)


def test_shift_moves_the_brightness_where_there_is_room() -> None:
    shift = Shift(brightness=(0.2, 0.2), contrast=(1.0, 1.0), colour=0.0)
    for level, expected in ((0.0, 0.2), (1.0, 0.8)):
        images = torch.full((20, 1, 4, 4), level)
        made = shift(images, everywhere(images), draws(20))
        torch.testing.assert_close(made, torch.full_like(made, expected))


def test_shift_changes_the_contrast_both_ways() -> None:
    images = textured(60, 1, 16, 16)
    made = Shift(brightness=(0.0, 0.0), contrast=(2.0, 2.0))(images, everywhere(images), draws(60))
    factor = made.std((1, 2, 3)) / images.std((1, 2, 3))
    assert set(factor.mul(100).round().tolist()) == {50.0, 200.0}
    torch.testing.assert_close(made.mean((1, 2, 3)), images.mean((1, 2, 3)), rtol=0, atol=1e-4)


def test_blur_keeps_the_mean_and_takes_the_detail() -> None:
    images = textured(10, 3, 40, 32)
    made = Blur(sigma=(0.1, 0.1))(images, everywhere(images), draws(10))
    assert (
        (made[..., 1:] - made[..., :-1]).abs().mean() < 0.5 * (images[..., 1:] - images[..., :-1]).abs().mean()
    ).item()
    flat = torch.full((2, 1, 16, 16), 0.3)
    torch.testing.assert_close(Blur()(flat, everywhere(flat), draws(2)), flat)


def test_gaussian_of_a_point_has_its_deviation() -> None:
    point = torch.zeros(2, 1, 65, 65)
    point[:, :, 32, 32] = 1.0
    made = blur(point, torch.tensor([1.5, 4.0]))[:, 0].sum(1)  # (K, W): a profile
    position = torch.arange(65) - 32.0
    torch.testing.assert_close((made * position.square()).sum(1).sqrt(), torch.tensor([1.5, 4.0]), rtol=0.01, atol=0)


def test_erase_is_the_mean_colour() -> None:
    images = textured(4, 3, 9, 9)
    made = Erase()(images, everywhere(images), draws(4))
    torch.testing.assert_close(made, images.mean((2, 3), keepdim=True).expand_as(images))


def test_roll_turn_and_take_are_those_of_torch() -> None:
    images = textured(3, 2, 6, 9)
    rolled = roll(images, torch.tensor([1, 0, 5]), torch.tensor([0, 8, 3]))
    expected = [torch.roll(image, move, (1, 2)) for image, move in zip(images, [(1, 0), (0, 8), (5, 3)], strict=True)]
    assert torch.equal(rolled, torch.stack(expected))
    zero = torch.zeros(3)
    torch.testing.assert_close(turn(images, zero, zero + 2, zero + 3), images, rtol=0, atol=1e-5)
    flipped = take_pixels(images, torch.arange(6).flip(0)[None, :, None], torch.arange(9)[None, None])
    assert torch.equal(flipped, images.flip(2))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Cutout(dark=0.8, bright=0.4), "Cutout.dark . bright"),
        (lambda: Noise(deviation=(0.4, 0.1)), "Noise.deviation"),
        (lambda: Permute(patches=(1, 3)), "Permute.patches"),
        (lambda: PastePlace(shift=0.7), "PastePlace.shift"),
        (lambda: Shift(contrast=(0.5, 2.0)), "Shift.contrast"),
        (lambda: Blur(sigma=(0.0, 0.1)), "Blur.sigma"),
        (lambda: Erase(opacity=(0.5, 1.5)), "Erase.opacity"),
        (lambda: Rotate(weight=float("nan")), "Rotate.weight"),
    ],
)
def test_wrong_numbers_are_named_in_one_line(build, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        build()
    assert "\n" not in str(caught.value)
