"""The preview writes its grid; the drawn textures are a data set that anomap accepts."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from PIL import Image

from anomap.commands.preview import preview
from anomap.config import config_dir, plain
from anomap.data.layouts.folder import FolderLayout
from anomap.errors import UserError
from tests import tiny

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import textures
from drawn.weave import DEFECTS


def test_textures_are_a_valid_folder_with_masks_and_preview_shows_them(tmp_path: Path) -> None:
    textures.make(tmp_path / "data", train=4, test=2, each=1)
    scan = FolderLayout(root=str(tmp_path / "data")).scan()
    assert len(scan.train) == 4
    assert {sample.defect for sample in scan.test} == {"good", *DEFECTS}
    assert all(bool(sample.masks) == (sample.label == 1) for sample in scan.test)

    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = plain(
            compose("preview", ["data=folder", f"data.root={tmp_path / 'data'}", "data.image_size=32", "count=3"])
        )
    picture = preview(config, tmp_path)
    assert np.asarray(Image.open(picture)).std() > 0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("count=0",), "count=0"),
        (("count=abc",), "count=abc"),
        (("seed=abc",), "seed=abc"),
        (("epoch=x",), "epoch=x"),
        (("data.root=null", "data.normal_dir=normals"), "no training images"),
    ],
)
def test_what_cannot_be_shown_is_one_line(
    given: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.write_folder(tmp_path / "data")
    shutil.copytree(next((tmp_path / "data/train").iterdir()), tmp_path / "normals")
    monkeypatch.chdir(tmp_path)
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = plain(compose("preview", ["data=folder", "data.root=data", "data.image_size=32", *given]))
    with pytest.raises(UserError, match=message):
        preview(config, tmp_path)
