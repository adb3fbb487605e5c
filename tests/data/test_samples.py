"""The split into training and calibration."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomap.data.samples import Sample, choose_scaling, hash_fraction, split_calibration
from anomap.errors import UserError

NAMES = st.sets(st.text(min_size=1), min_size=2, max_size=60)


def samples(names: set[str] | list[str]) -> list[Sample]:
    return [Sample(name, 0, "normal") for name in sorted(names)]


def test_the_hash_never_changes() -> None:
    # Written down: a checkpoint's calibration set must be found again by every later version.
    assert hash_fraction("train/0.normal/00.png", "calibration") == 0.07317201153151343
    assert hash_fraction("train/0.normal/00.png", "test") == 0.5757899390834395


@given(NAMES, st.floats(0.01, 0.99))
def test_the_split_is_a_partition_with_both_sides_filled(names: set[str], fraction: float) -> None:
    train, calibration = split_calibration(samples(names), fraction)
    assert train
    assert calibration
    assert sorted([*train, *calibration], key=lambda sample: sample.name) == samples(names)


@given(NAMES, st.floats(0.01, 0.99), st.randoms(use_true_random=False))
def test_the_split_does_not_depend_on_the_order(names: set[str], fraction: float, random: Random) -> None:
    shuffled = samples(names)
    random.shuffle(shuffled)
    assert set(split_calibration(shuffled, fraction)[0]) == set(split_calibration(samples(names), fraction)[0])


@given(st.integers(20, 200), st.integers(1, 50))
def test_adding_files_moves_no_other_file(count: int, more: int) -> None:
    before = split_calibration(samples([f"{number}.png" for number in range(count)]), 0.5)
    after = split_calibration(samples([f"{number}.png" for number in range(count + more)]), 0.5)
    assert set(before[0]) <= set(after[0])
    assert set(before[1]) <= set(after[1])


def test_the_fraction_is_met_on_average() -> None:
    names = [f"{number}.png" for number in range(10_000)]
    assert len(split_calibration(samples(names), 0.15)[1]) == pytest.approx(1500, abs=120)


def test_two_salts_are_independent() -> None:
    names = [f"{number}.png" for number in range(10_000)]
    kept = [name for name in names if hash_fraction(name, "test") >= 0.2]
    assert sum(hash_fraction(name, "calibration") < 0.15 for name in kept) == pytest.approx(1200, abs=120)


def test_equal_content_stays_on_one_side() -> None:
    names = [f"{number}.png" for number in range(40)]
    groups = {name: f"{int(name[:-4]) // 2 * 2}.png" for name in names}
    train, calibration = split_calibration(samples(names), 0.5, groups)
    assert not {groups[sample.name] for sample in train} & {groups[sample.name] for sample in calibration}


def test_fewer_than_two_different_images_is_an_error() -> None:
    with pytest.raises(UserError, match="at least 2"):
        split_calibration(samples(["a"]), 0.15)
    with pytest.raises(UserError, match="at least 2"):
        split_calibration(samples(["a", "b"]), 0.15, {"a": "a", "b": "a"})


@given(NAMES, st.randoms(use_true_random=False))
def test_half_of_the_calibration_set_scales_whatever_the_order(names: set[str], random: Random) -> None:
    shuffled = random.sample(sorted(names), len(names))
    chosen = choose_scaling([Sample(name, 0, "normal") for name in shuffled])
    assert chosen.sum() == len(names) // 2
    again = dict(zip(sorted(names), choose_scaling(samples(names)), strict=True))
    assert [again[name] for name in shuffled] == chosen.tolist()


def test_the_two_splits_know_nothing_of_each_other() -> None:
    """A calibration set lies at the low end of its own hash; the same hash again would only split what is left."""
    names = [f"{number}.png" for number in range(10_000)]
    calibration = split_calibration(samples(names), 0.15)[1]
    low = np.array([hash_fraction(sample.name, "calibration") < 0.075 for sample in calibration])
    assert low[choose_scaling(calibration)].mean() == pytest.approx(0.5, abs=0.06)


def test_copies_stay_on_one_side() -> None:
    names = [f"{number}.png" for number in range(40)]
    groups = {name: names[number // 4 * 4] for number, name in enumerate(names)}
    chosen = choose_scaling(samples(names), groups)
    sides = {(groups[sample.name], bool(side)) for sample, side in zip(samples(names), chosen, strict=True)}
    assert len(sides) == 10
    assert sum(side for _, side in sides) == 5
