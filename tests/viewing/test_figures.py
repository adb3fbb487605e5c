"""Figures: what they say is what the numbers are, and pyplot's global state stays out."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from anomap.detection.metrics import image_metrics
from anomap.viewing import figures
from anomap.viewing.axis import robust_range


@pytest.fixture
def scored() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], [80, 40])
    return generator.normal(labels * 2.0), labels


def _texts(figure: Figure) -> str:
    return "\n".join(artist.get_text() for artist in figure.findobj(Text))  # type: ignore[attr-defined]


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
    low, high = robust_range(scores, threshold=9.0)
    assert -10 < low < high < 20
    assert high > 9.0
    text = _texts(figures.score_distribution(scores, np.zeros(501), 9.0))
    assert "1 beyond" in text


@pytest.mark.parametrize("value", [0.0, 5.0, -3e7, 1e-12])
def test_identical_scores_still_have_a_range(value: float) -> None:
    low, high = robust_range(np.full(3, value), value)
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


def test_without_images_there_is_still_a_figure(tmp_path: Path) -> None:
    for draw in (figures.score_distribution, figures.roc_curve, figures.precision_recall_curve):
        figure = draw([], [], 1.0)
        figures.save_figure(figure, tmp_path / "empty.png", dpi=40)
        assert "images" in _texts(figure)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_save_figure_follows_the_suffix(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "deep" / f"figure.{suffix}"
    figures.save_figure(figures.roc_curve([0.0, 1.0], [0, 1]), path)
    assert path.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml", b"%PDF-")


def test_pyplot_is_never_imported() -> None:
    code = "import sys, anomap.viewing.report, anomap.viewing.figures; print('matplotlib.pyplot' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
