"""The augmentation as a whole: the mask is true, and a sample depends on (seed, epoch, index) alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch import Tensor

from anomap.augmentation.fills import Cutout, Fill
from anomap.augmentation.hard import HardAugmentation, visible_mask
from anomap.augmentation.regions import Rectangle, Region
from anomap.errors import UserError

from .test_fills import FILLS
from .test_regions import REGIONS
from .textures import TrainingImages, textured

CONF = Path(__file__).parents[2] / "conf" / "augmentation"


def preset(name: str, seed: int = 0, **overrides: Any) -> HardAugmentation:
    config = OmegaConf.create({"seed": seed, "augmentation": OmegaConf.load(CONF / f"{name}.yaml")})
    for key, value in overrides.items():
        OmegaConf.update(config, f"augmentation.{key}", value)
    return instantiate(config.augmentation)


def batch(
    count: int = 48, channels: int = 3, height: int = 32, width: int = 32
) -> tuple[Tensor, Tensor, TrainingImages]:
    images = textured(count, channels, height, width)
    return images, torch.arange(count), TrainingImages(textured(7, channels, height, width, seed=5))


def assert_mask_is_true(images: Tensor, augmented: Tensor, mask: Tensor, visible: float) -> None:
    change = (augmented - images).abs().amax(1, keepdim=True)
    assert augmented.min() >= 0.0
    assert augmented.max() <= 1.0
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert (change[mask == 0] <= visible).all()
    # An image has a mask exactly when something in it visibly changed.
    assert torch.equal(mask.amax((1, 2, 3)) > 0, (change > visible).flatten(1).any(1))


@pytest.mark.parametrize("size", [(1, 32, 32), (3, 32, 32), (3, 100, 64), (1, 64, 100), (6, 48, 48)])
def test_hard_preset_at_any_size(size: tuple[int, int, int]) -> None:
    images, index, donors = batch(64, *size)
    kept = images.clone()
    augmented, mask = preset("hard")(images, index, 0, donors)
    assert augmented.shape == images.shape
    assert mask.shape == (64, 1, *size[1:])
    assert augmented.dtype == mask.dtype == torch.float32
    assert torch.equal(images, kept)
    assert_mask_is_true(images, augmented, mask, 0.03)
    area = mask.mean((1, 2, 3))
    assert (area > 0).float().mean() > 0.9
    assert area.median() < 0.3  # local, not the whole image


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("fill", FILLS)
def test_every_pair_runs_and_its_mask_is_true(region: str, fill: str) -> None:
    for size in ((1, 32, 32), (3, 100, 64)):
        images, index, donors = batch(12, *size)
        augmentation = HardAugmentation({region: REGIONS[region]}, {fill: FILLS[fill]})
        augmented, mask = augmentation(images, index, 0, donors)
        assert_mask_is_true(images, augmented, mask, augmentation.visible)
        assert (mask.amax((1, 2, 3)) > 0).sum() >= 6


@pytest.mark.thorough
@settings(max_examples=12, deadline=None)
@given(
    order=st.permutations(list(range(16))),
    cut=st.integers(1, 15),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 10_000),
)
def test_a_sample_is_a_function_of_seed_epoch_and_index(order: list[int], cut: int, seed: int, epoch: int) -> None:
    images, index, donors = batch(16)
    index = index * 37 + 5
    augmentation = preset("hard", seed)
    augmented, mask = augmentation(images, index, epoch, donors)
    again = augmentation(images, index, epoch, donors)
    assert torch.equal(again[0], augmented)
    assert torch.equal(again[1], mask)
    rows = torch.tensor(order)
    parts = [preset("hard", seed)(images[part], index[part], epoch, donors) for part in rows.split([cut, 16 - cut])]
    assert torch.equal(torch.cat([part[0] for part in parts]), augmented[rows])
    assert torch.equal(torch.cat([part[1] for part in parts]), mask[rows])


def test_epochs_seeds_and_indices_differ() -> None:
    images, index, donors = batch(24)
    images = images[:1].expand_as(images)
    augmented = preset("hard")(images, index, 0, donors)[0]
    for other in (
        preset("hard")(images, index, 1, donors)[0],
        preset("hard", seed=1)(images, index, 0, donors)[0],
        preset("hard")(images, index + 1000, 0, donors)[0],
        augmented.roll(1, 0),
    ):
        assert ((augmented - other).abs().amax((1, 2, 3)) > 0.03).float().mean() > 0.9


def test_changed_pixels_stay_on_stored_levels() -> None:
    images, index, donors = batch()
    augmented, _ = preset("hard")(images, index, 0, donors)
    levels = augmented * 255
    assert (levels - levels.round()).abs().max() < 1e-4


def test_nothing_changes_outside_the_region() -> None:
    images, index, _ = batch(channels=1)
    images = torch.rand_like(images)  # not on stored levels either
    region = Rectangle()
    augmented, mask = HardAugmentation({"r": region}, {"c": Cutout()})(images, index, 0)
    untouched = (augmented == images).float().mean((1, 2, 3))
    assert untouched.min() > 0.8  # at most 15 % is painted
    assert (augmented[mask.expand_as(images) == 0] == images[mask.expand_as(images) == 0]).float().mean() > 0.98


def test_an_invisible_change_leaves_an_empty_mask() -> None:
    images = torch.full((8, 1, 32, 32), 0.5)
    same = Cutout(dark=0, bright=0, level=(0.51, 0.51))
    augmented, mask = HardAugmentation({"r": Rectangle()}, {"c": same})(images, torch.arange(8), 0)
    assert (augmented - images).abs().max() > 0.005
    assert mask.sum() == 0


def test_the_mask_is_closed_inside_the_region_only() -> None:
    images = torch.zeros(1, 1, 32, 32)
    augmented = images.clone()
    touched = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    touched[..., 8:20, 8:20] = True
    augmented[..., 8:20, 8:20] = 1.0
    augmented[..., 12, 12] = 0.0  # a speckle
    augmented[..., 8:20, 15] = 0.0  # a gap one pixel wide
    assert torch.equal(visible_mask(images, augmented, touched, 0.03), touched.float())
    touched[..., 8:20, 15] = False
    mask = visible_mask(images, augmented, touched, 0.03)
    assert mask[..., 15].sum() == 0
    assert mask[..., 12, 12] == 1


def test_none_is_the_identity() -> None:
    images, index, donors = batch()
    augmented, mask = preset("none")(images, index, 0, donors)
    assert torch.equal(augmented, images)
    assert augmented.data_ptr() != images.data_ptr()
    assert mask.sum() == 0
    assert mask.shape == (48, 1, 32, 32)


def test_cutout_is_one_upright_square_of_one_constant() -> None:
    images = torch.rand(64, 3, 64, 64) * 0.3
    augmented, mask = preset("cutout")(images, torch.arange(64), 0)
    inside = mask.expand_as(images) == 1
    assert augmented[inside].unique().tolist() == pytest.approx([128 / 255])
    assert torch.equal(augmented[~inside], images[~inside])
    height, width = mask.amax(3).sum((1, 2)), mask.amax(2).sum((1, 2))
    assert torch.equal(height * width, mask.sum((1, 2, 3)))  # upright and full
    clear = mask.clone()
    clear[..., 1:-1, 1:-1] = 0
    inner = clear.sum((1, 2, 3)) == 0  # not cut off by the border
    assert torch.equal(height[inner], width[inner])
    assert height[inner].min() >= 16
    assert height.max() <= 32


def test_probability_is_the_share_of_augmented_images() -> None:
    images = textured(1, 1, 16, 16).expand(1000, -1, -1, -1)
    augmentation = HardAugmentation({"r": Rectangle()}, {"c": Cutout(level=(1.0, 1.0))}, probability=0.3)
    augmented, mask = augmentation(images, torch.arange(1000), 0)
    share = (mask.amax((1, 2, 3)) > 0).float().mean().item()
    assert share == pytest.approx(0.3, abs=0.05)
    untouched = mask.amax((1, 2, 3)) == 0
    assert torch.equal(augmented[untouched], images[untouched])


def test_more_changes_lie_over_one_another() -> None:
    images = torch.zeros(200, 1, 32, 32)
    solid = {"c": Cutout(dark=0, bright=0, level=(0.2, 1.0), opacity=(1, 1))}
    augmentation = HardAugmentation({"r": Rectangle(area=(0.1, 0.1))}, solid, count=(3, 3))
    augmented, mask = augmentation(images, torch.arange(200), 0)
    colours = torch.tensor([len(image.unique()) - 1 for image in augmented])
    assert colours.max() == 3
    assert colours.min() >= 1  # later ones may hide earlier ones
    assert torch.equal(mask, (augmented > 0).float())


def test_weights_are_the_odds() -> None:
    white, black = (
        Cutout(dark=0, bright=0, level=(1, 1), weight=3.0),
        Cutout(dark=0, bright=0, level=(0, 0), weight=1.0),
    )
    augmentation = HardAugmentation({"r": Rectangle()}, {"white": white, "black": black})
    names = augmentation.describe(torch.arange(4000), 0)
    assert names.count("r x white") / 4000 == pytest.approx(0.75, abs=0.03)
    assert names.count("r x white") + names.count("r x black") == 4000


def test_describe_names_what_is_drawn() -> None:
    images, index, donors = batch(64)
    augmentation = preset("hard", count=[1, 3], probability=0.7)
    words = augmentation.describe(index, 2)
    _, mask = augmentation(images, index, 2, donors)
    assert {len(word.split(" + ")) for word in words} == {1, 2, 3}
    nothing = torch.tensor([word == "-" for word in words])
    assert mask[nothing].sum() == 0
    assert 5 < nothing.sum() < 35


def test_hard_draws_every_pair_but_the_excluded() -> None:
    augmentation = preset("hard", count=[1, 1])
    drawn = set(augmentation.describe(torch.arange(20_000), 0))
    excluded = {" x ".join(pair) for pair in OmegaConf.load(CONF / "hard.yaml").exclude}
    every = {f"{region} x {fill}" for region in augmentation.regions for fill in augmentation.fills}
    assert len(augmentation.regions) == 5
    assert len(augmentation.fills) == 9
    assert drawn == every - excluded


def test_one_family_alone_takes_one_override() -> None:
    words = preset("hard", only_fills=["blur"]).describe(torch.arange(200), 0)
    assert all(part.endswith(" x blur") for word in words for part in word.split(" + "))
    words = preset("hard", only_regions=["crack", "whole"]).describe(torch.arange(200), 0)
    assert {part.split(" x ")[0] for word in words for part in word.split(" + ")} == {"crack", "whole"}


def test_a_weight_of_zero_switches_off() -> None:
    words = preset("hard", **{"fills.blur.weight": 0, "regions.blob.weight": 0}).describe(torch.arange(2000), 0)
    assert not any("blur" in word or "blob" in word for word in words)


def test_donors_are_used_and_asked_for() -> None:
    images, index, donors = batch(32)
    augmentation = preset("hard", only_fills=["paste_image"])
    augmented, _ = augmentation(images, index, 0, donors)
    assert len(set(donors.asked)) > 3
    other = TrainingImages(1.0 - donors.images)
    assert not torch.equal(augmentation(images, index, 0, other)[0], augmented)
    with pytest.raises(ValueError, match="donors"):
        augmentation(images, index, 0)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"only_fills": ["blurr"]}, "only_fills names blurr.*choose from cutout, noise"),
        ({"only_regions": ["circle"]}, "only_regions names circle.*choose from rectangle"),
        ({"exclude": [["whole", "smear"]]}, "exclude names smear"),
        ({"exclude": ["whole"]}, r"exclude has whole, give \[region, fill\]"),
        ({"only_regions": ["whole"], "only_fills": ["cutout"]}, "no pair .* is left"),
        ({"only_fills": []}, "no pair .* is left"),
        ({"probability": 1.5}, "probability"),
        ({"count": [0, 2]}, "count"),
        ({"visible": -1}, "visible"),
    ],
)
def test_wrong_settings_are_named_in_one_line(overrides: dict[str, Any], words: str) -> None:
    config = OmegaConf.to_container(OmegaConf.load(CONF / "hard.yaml"))
    assert isinstance(config, dict)
    settings_: dict[str, Any] = {key: config[key] for key in ("count", "exclude")}
    regions: dict[str, Region] = REGIONS
    fills: dict[str, Fill] = FILLS
    with pytest.raises(UserError, match=words) as caught:
        HardAugmentation(regions, fills, **{**settings_, **overrides})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["none", "cutout", "hard"])
def test_every_key_of_a_preset_is_explained(name: str) -> None:
    lines = (CONF / f"{name}.yaml").read_text().splitlines()
    assert lines[0].startswith("# anomap-train ")
    for line in lines:
        key = line.strip().partition(":")[0]
        if line.strip() and key != "_target_" and not line.rstrip().endswith(":"):
            assert "#" in line or line.strip().startswith("- ["), line
