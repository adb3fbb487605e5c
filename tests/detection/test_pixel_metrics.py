"""Streamed pixel metrics against scikit-learn and an AUPRO written out plainly."""

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from anomap.data.masks import load_mask
from anomap.data.resizing import resize_map
from anomap.detection import pixel_metrics
from anomap.detection.pixel_metrics import PixelMetrics, aupro_from_counts, ordered_bits, region_weights


def exact_aupro(maps: np.ndarray, masks: np.ndarray, limit: float = 0.3) -> float:
    """Every threshold, every region, one by one: (B, H, W) maps and masks."""
    regions = []
    for anomaly_map, mask in zip(maps, masks, strict=True):
        labelled, count = ndimage.label(mask, structure=np.ones((3, 3)))  # type: ignore[misc]
        regions += [anomaly_map[labelled == region] for region in range(1, count + 1)]
    normal = maps[masks == 0]
    points = [(0.0, 0.0)]
    for threshold in np.unique(maps)[::-1]:
        overlap = np.mean([np.mean(region >= threshold) for region in regions])
        points.append((float(np.mean(normal >= threshold)), float(overlap)))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit or x1 == x0:
            continue
        end = min(x1, limit)
        y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / limit


def _scene(seed: int, batch: int = 6, size: int = 24, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Maps that are partly right about masks with several regions each; the last image is normal."""
    generator = np.random.default_rng(seed)
    masks = ndimage.gaussian_filter(generator.normal(size=(batch, size, size)), (0, 2, 2)) > 0.18
    masks[-1] = False
    maps = ndimage.gaussian_filter(generator.normal(size=masks.shape) + 0.8 * masks, (0, 1, 1))
    return (scale * maps).astype(np.float32), masks.astype(np.uint8)


def _measure(maps: np.ndarray, masks: np.ndarray, batch: int = 2, **options: int) -> dict[str, float | None]:
    metrics = PixelMetrics(**options)
    for start in range(0, len(maps), batch):
        metrics.update(maps[start : start + batch], masks[start : start + batch])
    return metrics.compute()


def _exact(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    return {
        "pixel_auroc": float(roc_auc_score(masks.ravel(), maps.ravel())),
        "pixel_ap": float(average_precision_score(masks.ravel(), maps.ravel())),
        "pixel_aupro": exact_aupro(maps, masks),
    }


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_exact_while_the_bins_suffice(seed: int, scale: float) -> None:
    maps, masks = _scene(seed, scale=scale)
    assert _measure(maps, masks) == pytest.approx(_exact(maps, masks), abs=1e-9)


def test_exact_with_ties() -> None:
    maps, masks = _scene(0)
    maps = np.round(maps * 4) / 4
    assert _measure(maps, masks) == pytest.approx(_exact(maps, masks), abs=1e-9)


@pytest.mark.thorough
@pytest.mark.parametrize("squeeze", [lambda x: x, lambda x: 0.99 + 0.01 / (1 + np.exp(-x)), lambda x: 1000 + x])
def test_close_with_few_bins_wherever_the_values_lie(squeeze) -> None:
    maps, masks = _scene(3, batch=4, size=32)
    maps = squeeze(maps).astype(np.float32)
    metrics = PixelMetrics(bins=2**9)
    metrics.update(maps, masks)
    assert metrics.dropped_bits > 0
    assert metrics.compute() == pytest.approx(_exact(maps, masks), abs=1e-2)


@pytest.mark.parametrize("bins", [64, 2**18])
def test_independent_of_batches_their_order_and_processes(bins: int) -> None:
    maps, masks = _scene(1)
    whole = _measure(maps, masks, batch=6, bins=bins)
    assert _measure(maps, masks, batch=1, bins=bins) == pytest.approx(whole, abs=1e-12)
    assert _measure(maps[::-1], masks[::-1], batch=4, bins=bins) == pytest.approx(whole, abs=1e-12)
    first, second = PixelMetrics(bins), PixelMetrics(bins)
    first.update(maps[:1], masks[:1])
    second.update(maps[1:], masks[1:])
    first.merge_state(second)
    assert first.compute() == pytest.approx(whole, abs=1e-12)


def test_memory_is_bounded() -> None:
    metrics = PixelMetrics(bins=100)
    generator = np.random.default_rng(0)
    for _ in range(20):
        metrics.update(generator.normal(size=(2, 1, 16, 16)), np.zeros((2, 1, 16, 16)))
    assert len(metrics.table()) <= 5 * 100
    assert metrics.table()[:, 1].sum() == 20 * 2 * 16 * 16


def test_the_memory_of_an_update_does_not_grow_with_its_batch() -> None:
    """64 MB of maps and masks are counted within the memory that 10 MB of them need."""
    maps = np.random.default_rng(0).random((8, 1, 1024, 1024), np.float32)
    masks = np.zeros(maps.shape, np.uint8)
    masks[:, :, 100:200, 100:300] = 1
    peaks, found = [], []
    for count in (1, 8):
        metrics = PixelMetrics(bins=2**12)
        tracemalloc.start()
        metrics.update(maps[:count], masks[:count])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        found.append(metrics.table())
    assert found[1][:, 1:3].sum() == maps.size
    assert peaks[1] < 1.3 * peaks[0]


def test_takes_tensors_with_or_without_the_channel() -> None:
    maps, masks = _scene(2)
    metrics = PixelMetrics()
    metrics.update(torch.from_numpy(maps)[:, None], torch.from_numpy(masks)[:, None].float())
    assert metrics.compute() == _measure(maps, masks, batch=6)


def test_every_region_counts_the_same_and_diagonals_belong_together() -> None:
    mask = np.zeros((2, 4, 4), bool)
    mask[0, 0, 0] = mask[0, 1, 1] = True  # one region by its corner
    mask[0, 3, 0:3] = True
    mask[1, 0, 0] = True  # touches nothing: another image
    assert region_weights(mask).tolist() == pytest.approx([1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3, 1])


def test_region_weights_of_a_part_and_of_nothing() -> None:
    mask = np.zeros((3, 9, 7), bool)
    mask[1, 4:6, 2:6] = True
    assert region_weights(mask).tolist() == [1 / 8] * 8
    assert region_weights(mask[:1]).size == 0


def test_a_thin_defect_that_the_network_cannot_see_is_measured() -> None:
    """A line of one pixel in 1024: of its mask at 64 pixels nothing, or far too much, would be left."""
    mask = np.zeros((1024, 1024), bool)
    mask[:, 515] = True
    hot = np.zeros((64, 64), np.float32)
    hot[:, 32] = 1
    metrics = PixelMetrics()
    metrics.update(hot, mask)
    found = metrics.compute()
    values = resize_map(hot, mask.shape)
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(mask.ravel(), values.ravel()), abs=1e-6)
    assert found["pixel_ap"] == pytest.approx(average_precision_score(mask.ravel(), values.ravel()), abs=1e-6)
    assert metrics.table()[:, 1:3].sum() == mask.size


def test_a_mask_that_went_through_jpeg_is_measured_as_the_original(tmp_path: Path) -> None:
    """Every byte above 0 was abnormal once: a perfect map had an AUROC of 0.8."""
    mask = np.zeros((240, 320), np.uint8)
    mask[40:44, 20:200] = mask[100:150, 260:275] = 255
    Image.fromarray(mask).save(tmp_path / "m.jpg", quality=60)
    perfect, metrics = mask + 20 * np.random.default_rng(0).random(mask.shape, np.float32), PixelMetrics()
    metrics.update(perfect, load_mask(tmp_path / "m.jpg", 10**6)[0])
    assert metrics.compute() == pytest.approx(_measure(perfect[None], mask[None]), abs=0.02)
    assert _measure(perfect[None], mask[None])["pixel_auroc"] > 0.99  # pyright: ignore[reportOptionalOperand]
    naive = _measure(perfect[None], (np.asarray(Image.open(tmp_path / "m.jpg")) > 0)[None])
    assert naive["pixel_auroc"] < 0.9  # pyright: ignore[reportOptionalOperand]


def test_masks_of_many_sizes() -> None:
    """As of maps that were brought there before, in one table."""
    generator, whole, parts = np.random.default_rng(0), PixelMetrics(), []
    for size in ((40, 30), (16, 16), (7, 90)):
        anomaly_map, mask = generator.random((16, 16), np.float32), generator.random(size) < 0.1
        whole.update(anomaly_map, mask)
        parts.append((resize_map(anomaly_map, size), mask))
    values, truth = (np.concatenate([part.ravel() for part in column]) for column in zip(*parts, strict=True))
    found = whole.compute()
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(truth, values), abs=1e-9)
    assert found["pixel_ap"] == pytest.approx(average_precision_score(truth, values), abs=1e-9)


def test_strips_of_a_large_image_count_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, masks = _scene(4, batch=2, size=40)
    whole = _measure(maps, masks)
    monkeypatch.setattr(pixel_metrics, "_STRIP", 77)
    assert _measure(maps, masks) == pytest.approx(whole, abs=1e-12)


def test_the_error_of_many_distinct_values_is_small() -> None:
    """Twice as many as there are bins, and more: the areas move in the fifth digit at most."""
    generator = np.random.default_rng(0)
    mask = ndimage.gaussian_filter(generator.normal(size=(1024, 1024)), 9) > 0.06
    values = ndimage.gaussian_filter(generator.normal(size=mask.shape), 2).astype(np.float32) * 5 + mask
    metrics = PixelMetrics()
    metrics.update(values, mask)
    assert metrics._merged()[1] > 0
    found = metrics.compute()
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(mask.ravel(), values.ravel()), abs=1e-5)
    assert found["pixel_ap"] == pytest.approx(average_precision_score(mask.ravel(), values.ravel()), abs=1e-5)


def test_aupro_of_known_maps() -> None:
    assert aupro_from_counts(np.array([7, 0]), np.array([0.0, 2.0])) == pytest.approx(1.0)  # perfect
    assert aupro_from_counts(np.array([5]), np.array([1.0])) == pytest.approx(0.15)  # constant: the chance diagonal
    assert aupro_from_counts(np.array([0, 9]), np.array([1.0, 0.0])) == 0.0  # upside down


@pytest.mark.parametrize("abnormal", [0, 1])
def test_one_class_of_pixels_is_none(abnormal: int) -> None:
    assert set(_measure(np.random.default_rng(0).random((2, 4, 4)), np.full((2, 4, 4), abnormal)).values()) == {None}
    assert set(PixelMetrics().compute().values()) == {None}


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        PixelMetrics().update(np.full((1, 2, 2), np.nan), np.zeros((1, 2, 2)))
    for wrong in ((1, 1, 2, 2), (3, 2, 2), (2,)):
        with pytest.raises(ValueError, match="must be"):
            PixelMetrics().update(np.zeros((1, 2, 2)), np.zeros(wrong))


@given(values=hnp.arrays(np.float32, 2, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_ordered_bits_sort_like_the_numbers(values: np.ndarray) -> None:
    low, high = ordered_bits(values).tolist()
    assert (low < high) == bool(values[0] < values[1])
    assert (low == high) == bool(values[0] == values[1])
