"""Figures: what they say is what the numbers are, and pyplot's global state stays out."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from anomap.detection.metrics import image_metrics
from anomap.runs.scores import ScoreRow
from anomap.viewing import figures, palette


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], [80, 40])
    return generator.normal(labels * 2.0), labels


def _texts(figure: Figure) -> str:
    return "\n".join(artist.get_text() for artist in figure.findobj(Text))  # type: ignore[attr-defined]


def _images(count: int, channels: int = 1, size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, channels, size, size), np.uint8), generator.random((count, size, size))


def test_distribution_counts_its_classes_and_names_the_threshold(
    scored: tuple[np.ndarray, np.ndarray],
) -> None:
    scores, labels = scored
    figure = figures.score_distribution(scores, labels, 1.25)
    text = _texts(figure)
    assert "normal (80)" in text
    assert "abnormal (40)" in text
    assert "threshold 1.25" in text
    assert "beyond" not in text


def test_distribution_gathers_outliers_and_keeps_the_threshold_in_view() -> None:
    scores = np.append(np.random.default_rng(0).normal(size=500), 1e6)
    low, high = figures.robust_range(scores, threshold=9.0)
    assert -10 < low < high < 20
    assert high > 9.0
    text = _texts(figures.score_distribution(scores, np.zeros(501), 9.0))
    assert "1 beyond" in text


@pytest.mark.parametrize("value", [0.0, 5.0, -3e7, 1e-12])
def test_identical_scores_still_have_a_range(value: float) -> None:
    low, high = figures.robust_range(np.full(3, value), value)
    assert low < value < high


def test_curves_report_the_metrics(scored: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = scored
    metrics = image_metrics(scores, labels, 1.25)
    roc = _texts(figures.roc_curve(scores, labels, 1.25))
    assert f"AUROC {metrics['image_auroc']:.3f}" in roc
    assert f"FPR {metrics['test_fpr']:.3f}, TPR {metrics['test_tpr']:.3f}" in roc
    curve = _texts(figures.precision_recall_curve(scores, labels, 1.25))
    assert f"AP {metrics['image_ap']:.3f}" in curve
    assert f"recall {metrics['test_tpr']:.3f}" in curve
    assert f"precision {labels[scores > 1.25].mean():.3f}" in curve


@pytest.mark.parametrize("draw", [figures.roc_curve, figures.precision_recall_curve])
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_says_so_instead_of_drawing(draw, label: int) -> None:
    assert "needs normal and abnormal images" in _texts(draw([1.0, 2.0], [label, label], 1.5))


def test_curves_without_any_alarm(scored: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = scored
    assert "FPR 0.000, TPR 0.000" in _texts(figures.roc_curve(scores, labels, 1e9))
    assert "threshold" not in _texts(figures.precision_recall_curve(scores, labels, 1e9))


@pytest.mark.parametrize("masks", [False, True])
def test_map_grid_keeps_the_given_scale_in_every_row(tmp_path: Path, masks: bool) -> None:
    images, maps = _images(3)
    figure = figures.attention_map_grid(
        images,  # type: ignore[arg-type]
        maps * np.array([0.01, 1, 5])[:, None, None],  # type: ignore[arg-type]
        (0.0, 2.0),
        names=["a/$1$.png", "b.png", "c\n.png"],
        labels=[0, 1, 1],
        scores=[0.5, 1.5, 2.5],
        masks=[plane > 0.8 for plane in maps] if masks else None,
        threshold=0.5,
    )
    heat = [image for axes in figure.axes for image in axes.images if image.get_array().ndim == 2]  # type: ignore[union-attr]
    assert [image.get_clim() for image in heat] == [(0.0, 2.0)] * 3
    text = _texts(figure)
    assert "a/$1$.png · normal · 0.5" in text
    assert "c?.png · abnormal · 2.5" in text
    assert ("mask" in text) == masks
    figures.save_figure(figure, tmp_path / "grid.png", dpi=40)
    with Image.open(tmp_path / "grid.png") as picture:
        assert picture.width > 100


def test_worst_mistakes_shows_only_mistakes(tmp_path: Path) -> None:
    images, maps = _images(4, channels=3)
    pairs = [(1, 0.1), (1, 0.9), (0, 0.8), (0, 0.2)]
    rows = [ScoreRow.decide(f"{i}.png", label, "crack", score, 0.5) for i, (label, score) in enumerate(pairs)]
    figure = figures.worst_mistakes(rows, images, maps, (0, 1), count=3)  # type: ignore[arg-type]
    text = _texts(figure)
    assert "0.png" in text
    assert "2.png" in text
    assert "1.png" not in text
    assert "3.png" not in text
    figures.save_figure(figure, tmp_path / "mistakes.png", dpi=40)
    assert (tmp_path / "mistakes.png").stat().st_size > 1000
    with pytest.raises(ValueError, match="scale"):
        figures.worst_mistakes(rows, images, maps)  # type: ignore[arg-type]


def test_worst_mistakes_without_any() -> None:
    images, _ = _images(1)
    rows = [ScoreRow.decide("0.png", 0, "good", 0.1, 0.5)]
    assert _texts(figures.worst_mistakes(rows, images)).count("none at this threshold") == 2  # type: ignore[arg-type]


def test_training_curve_has_a_panel_per_quantity() -> None:
    history = {name: ([1, 2, 3], [3.0, float("nan"), 1.0]) for name in ("a", "b", "c", "d")}
    text = _texts(figures.training_curve(history))
    assert all(name in text.split("\n") for name in history)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_save_figure_follows_the_suffix(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "deep" / f"figure.{suffix}"
    figures.save_figure(figures.roc_curve([0.0, 1.0], [0, 1]), path)
    assert path.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml", b"%PDF-")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_number_of_channels_becomes_rgb(channels: int) -> None:
    image = _images(1, channels)[0][0]
    rgb = figures.to_rgb_image(image)
    assert rgb.shape == (16, 16, 3)
    assert rgb.dtype == np.uint8
    expected = image if channels == 3 else np.rint(image.mean(0, keepdims=True)).repeat(3, 0)
    assert (np.moveaxis(rgb, -1, 0) == expected).all()


def test_overlay_leaves_the_normal_untouched_and_marks_the_abnormal() -> None:
    image = np.full((1, 8, 8), 100, np.uint8)
    anomaly_map = np.zeros((1, 8, 8))
    anomaly_map[0, 2:6, 2:6] = 1.0
    before = image.copy()
    plain = figures.overlay(image, anomaly_map, (0, 1))
    assert (plain[anomaly_map[0] == 0] == 100).all()
    assert (plain[3, 3] != 100).any()
    outlined = figures.overlay(image, anomaly_map, (0, 1), threshold=0.5)
    border = (outlined == palette.rgb(palette.CONTOUR)).all(-1)
    assert border.sum() == 12  # the rim of a 4 x 4 square
    assert not border[3:5, 3:5].any()
    assert (image == before).all()


def test_overlay_is_the_same_whatever_else_is_drawn() -> None:
    image = np.full((1, 4, 4), 100, np.uint8)
    weak, strong = np.full((4, 4), 0.1), np.full((4, 4), 5.0)
    assert np.abs(figures.overlay(image, weak, (0, 1)).astype(int) - 100).max() < 20
    assert (figures.overlay(image, strong, (0, 1)) == figures.overlay(image, np.ones((4, 4)), (0, 1))).all()


def test_overlay_refuses_what_does_not_fit() -> None:
    image = np.zeros((1, 4, 4), np.uint8)
    with pytest.raises(ValueError, match="does not fit"):
        figures.overlay(image, np.zeros((8, 8)), (0, 1))
    with pytest.raises(ValueError, match="ascend"):
        figures.overlay(image, np.zeros((4, 4)), (1, 1))


def test_pyplot_is_never_imported() -> None:
    code = "import sys, anomap.viewing.report, anomap.viewing.figures; print('matplotlib.pyplot' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
