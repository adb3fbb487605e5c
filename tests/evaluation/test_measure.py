"""What is measured of a test set, and what is kept to be shown."""

import ast
import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from torch import Tensor

import anomap
from anomap import memory
from anomap.data.imageset import ImageSet
from anomap.data.masks import Masks
from anomap.data.samples import Sample
from anomap.detection.scoring import ScoringModel
from anomap.evaluation.scored_set import take_pictures
from anomap.memory import peak_rss
from anomap.objectives.base import MethodOutput, Objective


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_the_peak_is_in_bytes_on_every_system(platform: str, unit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "Path", lambda _: Path("not there"))  # as where there is no /proc
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=5000))
    assert peak_rss() == 5000 * unit


@pytest.mark.skipif(sys.platform != "linux", reason="the system's own unit is what is compared with")
def test_the_peak_is_about_what_the_system_says() -> None:
    assert peak_rss() == pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, rel=0.2)


class Mirror(Objective):
    """Whose reconstruction is the negative, and whose attention is the image."""

    part_names = ("brightness",)

    def __init__(self, attentive: bool) -> None:
        super().__init__()
        self.attentive = attentive

    def score(self, images: Tensor) -> MethodOutput:
        attention, restored = (images, 1 - images) if self.attentive else (None, None)
        return MethodOutput({"brightness": images.mean((1, 2, 3))}, images * 2, attention, restored)


@pytest.mark.parametrize("attentive", [True, False])
def test_pictures_hold_what_the_method_shows(attentive: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 1, 4, 4), np.uint8)
    samples = [Sample(str(i), 0, "") for i in range(40)]
    masks = Masks(10**6, 10**6) if attentive else None
    for sample, image in zip(samples, pixels, strict=True):
        if masks is not None and sample.name != "7":
            masks.keep(sample, (12, 8), (image[0] > 128).repeat(3, 0).repeat(2, 1))
    images = ImageSet(pixels, samples, masks)
    chosen = [0, *range(5, 40)]  # more than are scored at a time
    pictures = take_pictures(ScoringModel(Mirror(attentive), (4, 4)), images, chosen)
    assert list(pictures) == chosen
    for index, picture in pictures.items():
        np.testing.assert_array_equal(picture.image, pixels[index])
        np.testing.assert_allclose(picture.anomaly_map, pixels[index] / 255 * 2, rtol=1e-6)
        if masks is None:
            assert picture.mask is picture.attention_map is picture.restored is None
        else:
            if index == 7:  # nothing is known of it
                assert picture.mask is None
            else:
                np.testing.assert_array_equal(picture.mask, pixels[index, 0] > 128)
            assert picture.attention_map is not None
            np.testing.assert_allclose(picture.attention_map, pixels[index] / 255, rtol=1e-6)
            np.testing.assert_array_equal(picture.restored, 255 - pixels[index])


def test_prediction_does_without_torchmetrics() -> None:
    """It takes seconds to import; scoring a test set imports it when it must."""
    for path in (Path(anomap.__file__).parent / "detection").glob("*.py"):
        if path.stem in ("gathered", "pixel_metrics"):
            continue
        for node in ast.parse(path.read_text()).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.endswith((".gathered", ".pixel_metrics", "torchmetrics")) for name in names), path
