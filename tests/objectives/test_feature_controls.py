"""Controls over pretrained features, against brute force and the textbook formula."""

import pytest
import torch
from torch import Tensor, nn

from anomap.objectives.density import sample_cells
from anomap.objectives.feature_controls import FeatureDensity, PatchMemory
from anomap.objectives.losses import top_mean


class Columns(nn.Module):
    """A representation whose features are four channels of the image itself, one cell per 2x2 pixels."""

    stride = 2
    local_channels = channels = 4

    @property
    def encoder(self) -> "Columns":
        return self

    def load_pretrained(self) -> None:
        """Nothing to load."""

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        local = nn.functional.pixel_unshuffle(images, 2)
        return local, local[:, :0]

    def forward(self, images: Tensor) -> Tensor:
        return self.raw(images)[0]

    def local(self, representation: Tensor) -> Tensor:
        return representation

    def learn_statistics(self, batches: list[Tensor]) -> None:
        """Nothing to learn."""

    def clean_batches(self, batches: list[Tensor]) -> list[Tensor]:
        return [self(batch) for batch in batches]


@pytest.fixture
def images() -> Tensor:
    return torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def rows(images: Tensor) -> Tensor:
    return Columns()(images).movedim(1, -1).flatten(0, -2)


def test_one_gaussian_is_the_mahalanobis_distance_per_dimension(images: Tensor) -> None:
    control = FeatureDensity(Columns(), components=1, top_fraction=1.0)  # pyright: ignore[reportArgumentType]
    many = torch.rand(600, 1, 8, 8, generator=torch.Generator().manual_seed(2))  # where little is shrunk
    control.learn_statistics(many.split(100))
    x = rows(many).double()
    covariance = torch.cov(x.T, correction=0) + control.mixture.ridge * torch.eye(4, dtype=torch.float64)
    centred = rows(images).double() - x.mean(0)
    expected = (centred @ torch.linalg.inv(covariance) * centred).sum(1).div(4).sqrt().view(6, 16).float()
    rarity = control.mixture(Columns()(images)).flatten(1)
    torch.testing.assert_close(rarity, expected, rtol=1e-2, atol=1e-2)
    scored = control.score(images)
    torch.testing.assert_close(scored.parts["density"], rarity.mean(1))
    assert scored.anomaly_map.shape == (6, 1, 8, 8)
    assert control.mixture.fitted_images == 600


def test_patch_memory_is_the_distance_to_the_nearest_remembered_cell(images: Tensor) -> None:
    control = PatchMemory(Columns(), samples=40)  # pyright: ignore[reportArgumentType]
    control.learn_statistics([images[:3], images[3:]])
    assert control.bank.shape == (40, 4)
    assert {tuple(row) for row in control.bank.tolist()} <= {tuple(row) for row in rows(images).tolist()}
    new = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    nearest = (rows(new)[:, None] - control.bank[None]).square().sum(2).min(1).values.sqrt().view(2, 1, 4, 4)
    scored = control.score(new).parts
    torch.testing.assert_close(
        next(iter(scored.values())), top_mean(nearest, control.top_fraction), rtol=1e-3, atol=1e-3
    )


def test_sampled_cells_are_all_there_are_or_a_draw_without_repetition(images: Tensor) -> None:
    maps = [Columns()(images[:2]), Columns()(images[2:])]
    everything = sample_cells(maps, 1000, torch.Generator().manual_seed(0))
    assert sorted(everything.tolist()) == sorted(rows(images).tolist())
    some = sample_cells(maps, 20, torch.Generator().manual_seed(0))
    assert len(some) == 20
    assert len({tuple(row) for row in some.tolist()}) == 20
    assert {tuple(row) for row in some.tolist()} <= {tuple(row) for row in everything.tolist()}
    again = sample_cells(maps, 20, torch.Generator().manual_seed(0))
    assert torch.equal(some, again)


def test_every_cell_is_drawn_equally_often() -> None:
    """Batches early and late in the pass have the same chance."""
    maps = [torch.full((1, 1, 2, 2), float(number)) for number in range(10)]
    counts = torch.zeros(10)
    for seed in range(200):
        drawn = sample_cells(maps, 8, torch.Generator().manual_seed(seed))
        counts += torch.bincount(drawn.flatten().long(), minlength=10)
    assert counts.sum() == 1600
    assert (counts - 160).abs().max() < 60  # about five standard deviations
