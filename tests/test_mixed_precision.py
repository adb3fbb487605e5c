"""Training under bf16-mixed finds what training in full precision finds."""

import subprocess
import sys
from pathlib import Path

import pytest

from anomap.commands.train import train
from tests import tiny

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.skipif(not tiny.PRETRAINED, reason="needs timm and the packaged weights")
def test_auroc_of_the_drawn_textures_is_that_of_full_precision(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "textures.py", tmp_path / "textures"], check=True)
    chosen = (
        *("model=feature_attention_network", "data.image_size=128", "data.batch_size=12", "controls=false"),
        *("trainer.max_epochs=null", "model.steps=60"),
    )
    found = {}
    for precision in ("32-true", "bf16-mixed"):
        config = tiny.config(*chosen, f"data.root={tmp_path / 'textures'}", f"trainer.precision={precision}")
        found[precision] = train(config, tmp_path / precision)["image_auroc"]
    assert found["32-true"] > 0.9
    assert found["bf16-mixed"] == pytest.approx(found["32-true"], abs=0.01)
