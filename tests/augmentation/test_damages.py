"""Damage for the estimate: of the size and strength asked for, always the same, and unknown to every training."""

import inspect

import pytest
import torch

from anomap.augmentation import damages
from anomap.augmentation.damages import CLEAR, FAINT, KINDS, STRENGTHS, damage
from anomap.config import config_dir

IMAGES = torch.rand(6, 3, 48, 64, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2
INDEX = torch.arange(6)


@pytest.mark.parametrize("strength", STRENGTHS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0.1, 0.4])
def test_it_is_as_large_as_asked_for_and_all_of_it_is_in_the_mask(kind: str, strength: str, size: float) -> None:
    changed, masks = damage(kind, size, strength)(IMAGES, INDEX, 0)
    for image, before, mask in zip(changed, IMAGES, masks, strict=True):
        rows, columns = mask[0].nonzero().unbind(1)
        height, width = (int(places.max() - places.min()) + 1 for places in (rows, columns))
        assert 0.6 * size * 48 - 1 <= max(height, width) <= size * 48 + 4  # a soft edge, and whole pixels
        visible = (image - before).abs().amax(0) > damages.VISIBLE
        assert visible.any()
        assert not (visible & (mask[0] == 0)).any()
        assert torch.equal(image, image.clamp(0, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_clear_one_changes_more_than_a_faint_one_at_the_same_place(kind: str) -> None:
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    waves = 0.5 + 0.15 * torch.sin(x / 2) + 0.15 * torch.sin(y / 2)
    images = waves.expand(6, 3, 64, 64)  # noise would be no stranger for being moved further
    faint, clear = (damage(kind, 0.4, strength)(images, INDEX, 0) for strength in (FAINT, CLEAR))
    assert ((clear[0] - images).abs().sum((1, 2, 3)) > 1.3 * (faint[0] - images).abs().sum((1, 2, 3))).all()
    assert ((clear[1] * faint[1]).sum((1, 2, 3)) > 0.5 * faint[1].sum((1, 2, 3))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_it_follows_from_seed_and_index_alone(kind: str) -> None:
    made = damage(kind, 0.3, CLEAR, seed=3)
    whole = made(IMAGES, INDEX, 0)[0]
    assert torch.allclose(made(IMAGES[4:], INDEX[4:], 0)[0], whole[4:], atol=1 / 255)
    assert torch.equal(damage(kind, 0.3, CLEAR, seed=3)(IMAGES, INDEX, 0)[0], whole)
    assert not torch.equal(damage(kind, 0.3, CLEAR, seed=4)(IMAGES, INDEX, 0)[0], whole)


def test_no_training_draws_any_of_it() -> None:
    """Held out by definition: no YAML file names the module, and none of its classes is one that they name."""
    texts = [path.read_text() for path in config_dir().rglob("*.yaml")]
    assert any("anomap.augmentation.fills." in text for text in texts)
    assert not any("damages" in text for text in texts)
    used = {part for region, fill, _ in KINDS.values() for part in (region, fill)}
    assert {part.__module__ for part in used} == {damages.__name__}
    for part in used:
        assert all(
            inspect.isabstract(base) or base.__module__ != "anomap.augmentation.fills" for base in part.__bases__
        )


def test_it_never_reaches_the_border_as_a_wrong_pixel() -> None:
    """A warp or smear reads beyond the border: mirrored, never black."""
    light = torch.full((8, 1, 32, 32), 0.8)
    for kind in ("warp", "smear"):
        changed, masks = damage(kind, 0.9, CLEAR)(light, torch.arange(8), 0)
        assert torch.equal(changed, light)
        assert not masks.any()
