"""From the config to the data of a run, and the config files themselves."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from anomap.data.build import build_data
from anomap.data.layouts.folder import FolderLayout
from anomap.data.layouts.named import LAYOUTS
from anomap.errors import UserError

from .helpers import make_dataset

CONF = Path(__file__).parents[2] / "conf"


def config(name: str, *overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("train", [f"data={name}", *(f"data.{override}" for override in overrides)])
    plain = OmegaConf.to_container(composed.data, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_every_config_builds_and_has_every_key(name: str) -> None:
    given = config(name)
    auto = given["channels"] == "auto"  # settled by a look at the files
    data = build_data({**given, "channels": 3} if auto else given, seed=3, stride=32)
    assert type(data.layout) is LAYOUTS[name]
    assert data.seed == 3
    assert data.channels == (1 if name in ("elpv", "fashion_mnist") else 3)


@pytest.mark.parametrize("path", sorted((CONF / "data").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_key_has_a_comment_and_the_first_line_is_a_command(path: Path) -> None:
    first, *lines = path.read_text().splitlines()
    assert first.startswith("# ")
    commands = {"base": "anomap-train data=folder", "checkpoint": "anomap-evaluate checkpoint="}
    assert commands.get(path.stem, f"anomap-train data={path.stem}") in first
    keys = [line for line in lines if line.strip() and not line.startswith(("# ", "defaults:", "  - ", "name:"))]
    assert all(" # " in line for line in keys)


def test_overrides_reach_the_data(tmp_path: Path) -> None:
    make_dataset(tmp_path)
    overrides = [
        f"root={tmp_path}",
        "image_size=[16,8]",
        "batch_size=3",
        "channels=1",
        "bands=[0]",
        "background=white",
        "intensity_range=[0,128]",
    ]
    data = build_data(config("folder", *overrides))
    data.setup()
    assert data.train.images.shape[1:] == (1, 16, 8)
    assert data.preprocessing == {
        "channels": 1,
        "size": (16, 8),
        "intensity_range": (0.0, 128.0),
        "max_pixels": 64_000_000,
        "bands": (0,),
        "background": "white",
    }
    assert isinstance(data.layout, FolderLayout)
    assert data.layout.root == str(tmp_path)


def test_an_unknown_key_gets_the_nearest_one() -> None:
    with pytest.raises(UserError, match=r"data=folder has no key imagesize \(did you mean image_size\?\)"):
        build_data({**config("folder"), "imagesize": 3})
    with pytest.raises(UserError, match="no key cells"):
        build_data({**config("folder"), "cells": "mono"})
    for internal in ("layout", "seed", "stride", "augmentation"):
        with pytest.raises(UserError, match=f"no key {internal}"):
            build_data({**config("folder"), internal: 1})


def test_unknown_names_and_missing_keys() -> None:
    with pytest.raises(UserError, match=r"data\.name=foldr: .*did you mean folder"):
        build_data({"name": "foldr"})
    with pytest.raises(UserError, match=r"data\.name=None"):
        build_data({})
    with pytest.raises(UserError, match=r"data\.batch_size is not set"):
        build_data({"name": "folder"})


def test_the_stride_reaches_the_check() -> None:
    with pytest.raises(UserError, match=r"data\.image_size=64 or data\.image_size=96"):
        build_data({**config("folder"), "image_size": 70}, stride=32)
