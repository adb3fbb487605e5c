"""Options: what is accepted, and the line that a wrong value gets."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomap.config import check_whole
from anomap.data.checks import check_channels, check_fraction, check_image_size, check_intensity_range
from anomap.errors import UserError


def test_image_sizes() -> None:
    assert check_image_size(64, 16) == (64, 64)
    assert check_image_size([32, 48], 16) == (32, 48)


@pytest.mark.parametrize(
    ("size", "stride", "nearest"),
    [
        (70, 16, "data.image_size=64 or data.image_size=80"),
        (5, 16, "data.image_size=16"),
        ([70, 64], 16, "data.image_size=[64,64] or data.image_size=[80,64]"),
    ],
)
def test_the_message_names_the_nearest_valid_sizes(size: Any, stride: int, nearest: str) -> None:
    with pytest.raises(UserError) as caught:
        check_image_size(size, stride)
    assert str(caught.value).endswith(f"use {nearest}")


@given(st.integers(1, 2000), st.integers(1, 64))
def test_a_size_is_accepted_exactly_when_the_stride_divides_it(size: int, stride: int) -> None:
    if size % stride == 0:
        assert check_image_size(size, stride) == (size, size)
    else:
        with pytest.raises(UserError):
            check_image_size(size, stride)


@pytest.mark.parametrize("size", [0, -8, 8.0, "64", True, None, [8], [8, 8, 8], [8, 0], ["8", 8]])
def test_sizes_that_are_none(size: Any) -> None:
    with pytest.raises(UserError, match=r"data\.image_size"):
        check_image_size(size)


@pytest.mark.parametrize("channels", [0, 2, 4, "3", True, 1.0, None])
def test_channels(channels: Any) -> None:
    assert [check_channels(1), check_channels(3)] == [1, 3]
    with pytest.raises(UserError, match=r"data\.channels"):
        check_channels(channels)


@pytest.mark.parametrize("value", [[1, 1], [2, 1], [0], [0, 1, 2], "01", ["a", "b"], 5, [0, float("inf")]])
def test_intensity_ranges(value: Any) -> None:
    assert check_intensity_range(None) is None
    assert check_intensity_range([0, 4095]) == (0.0, 4095.0)
    with pytest.raises(UserError, match=r"data\.intensity_range"):
        check_intensity_range(value)


def test_integers_and_fractions() -> None:
    check_whole("data.batch_size", 1, 1)
    assert check_fraction("calibration_fraction", 0.15) == 0.15
    for value in (0, 1.5, "4", True, None):
        with pytest.raises(UserError, match=r"data\.batch_size"):
            check_whole("data.batch_size", value, 1)
    for value in (0, 1, -0.1, "0.5", float("nan")):
        with pytest.raises(UserError, match=r"data\.calibration_fraction"):
            check_fraction("calibration_fraction", value)
