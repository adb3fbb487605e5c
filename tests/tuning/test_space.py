"""Search spaces in YAML."""

from typing import Any

import optuna
import pytest
from omegaconf import OmegaConf

from anomap.config import config_dir, flat
from anomap.errors import UserError
from anomap.tuning.space import Range, override, read_space, suggest
from tests import tiny


def test_ranges_and_choices_are_read_where_they_stand() -> None:
    space = read_space(
        {"a": {"b": {"low": 1, "high": 5}, "c": {"choices": [None, "x"]}}, "d": {"low": 0.1, "high": 1, "log": True}}
    )
    assert space == {"a.b": Range(1, 5), "a.c": (None, "x"), "d": Range(0.1, 1, log=True)}


@pytest.mark.parametrize(
    ("node", "told"),
    [
        ({}, "nothing to search"),
        ({"a": 3}, "space.a=3"),
        ({"a": {"low": 2}}, "space.a.high=None"),
        ({"a": {"low": 2, "high": 1}}, "below high"),
        ({"a": {"low": 0, "high": 1, "log": True}}, "above 0"),
        ({"a": {"low": 1, "high": 9, "log": True, "step": 2}}, "step=2"),
        ({"a": {"choices": []}}, "space.a"),
        ({"a": {"choices": [[1, 2]]}}, "space.a.choices"),
        ({"a": {"choices": [1], "low": 2}}, "stand alone"),
    ],
)
def test_what_is_no_space_is_one_line(node: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_space(node)


def test_values_keep_to_the_space() -> None:
    space = read_space({"whole": {"low": 2, "high": 8, "step": 2}, "log": {"low": 1e-4, "high": 1, "log": True}})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    drawn = [suggest(space, study.ask()) for _ in range(20)]
    assert {values["whole"] for values in drawn} == {2, 4, 6, 8}
    assert all(values[key] in space[key] for values in drawn for key in space)
    assert 3 not in space["whole"]
    assert 2.0 not in space["log"]


@pytest.mark.parametrize(
    ("value", "text"), [(1e-05, "k=1e-05"), (True, "k=true"), (None, "k=null"), ("a", "k=a"), ("a b=c", "k='a b=c'")]
)
def test_an_override_is_as_it_would_be_typed(value: Any, text: str) -> None:
    assert override("k", value) == text


@pytest.mark.parametrize("path", sorted((config_dir() / "space").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_spaces_hold_keys_of_the_training(path: Any) -> None:
    space = read_space(OmegaConf.to_container(OmegaConf.load(path)))  # pyright: ignore[reportArgumentType]
    known = flat(tiny.config("model=adgan"))
    assert space.keys() <= known.keys()
    assert all(known[key] in entry for key, entry in space.items())  # so the first trial is as configured
