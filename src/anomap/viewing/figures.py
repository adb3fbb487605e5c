"""Figures of scores, and what all figures have in common: none needs a window system or touches pyplot's global state."""

import io
import math
import os
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anomap.runs.folder import write_atomically
from anomap.viewing import palette
from anomap.viewing.axis import score_axis
from anomap.viewing.fonts import set_fonts

STYLE: dict[Any, Any] = {
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.labelcolor": palette.INK,
    "axes.edgecolor": palette.MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": palette.GRID,
    "text.color": palette.INK,
    "xtick.color": palette.MUTED,
    "ytick.color": palette.MUTED,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "text.parse_math": False,  # a file name may hold dollar signs
}

styled = matplotlib.rc_context(STYLE)  # decorates a function that draws


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches."""
    return Figure(figsize=(width, height), layout="constrained")


@styled
def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int = 150) -> None:
    """Write `figure` atomically, in the format of the suffix (png, svg, pdf)."""
    set_fonts(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=Path(path).suffix.lstrip(".") or "png", dpi=dpi, facecolor="white")
    write_atomically(path, buffer.getvalue())


def message(axes: Axes, text: str) -> None:
    """Write a text instead of a drawing."""
    axes.text(0.5, 0.5, text, ha="center", va="center", color=palette.MUTED, transform=axes.transAxes)


@styled
def score_distribution(
    scores: npt.ArrayLike, labels: npt.ArrayLike, threshold: float | None = None, title: str = "Anomaly scores"
) -> Figure:
    """Draw the scores (N,) of normal (0, blue) and abnormal (1, orange) images as histograms with shared bins.

    Heights are shares of each class, so that a rare class stays visible; the legend has the counts. Outliers are
    gathered in the outermost bins and counted there; the axis is bent if many lie far away (`score_axis`).
    """
    values, classes = np.asarray(scores, np.float64), np.asarray(labels)
    figure = new_figure(7.5, 4.2)
    axes = figure.add_subplot()
    axes.set_title(title, pad=22)
    if not values.size:
        message(axes, "no images")
        return figure
    axis = score_axis(values, classes == 0, threshold)
    low, high = axis.low, axis.high
    count = min(60, max(24, int(2 * math.sqrt(values.size))))
    bins = axis.score(np.linspace(axis.place(low), axis.place(high), count))
    bins[0], bins[-1] = low, high
    for label, (colour, name) in enumerate(zip(palette.CLASS_COLOURS, palette.CLASS_NAMES, strict=True)):
        own = np.clip(values[classes == label], low, high)
        if own.size:
            style: dict[str, Any] = {"bins": bins, "weights": np.full(own.size, 1 / own.size), "color": colour}
            axes.hist(own, alpha=0.45, label=f"{name} ({own.size:,})", **style)
            axes.hist(own, histtype="step", linewidth=1.4, **style)
    top = axes.get_xaxis_transform()  # x of the data, y of the axes
    if threshold is not None:
        axes.axvline(threshold, color=palette.THRESHOLD, linestyle=(0, (4, 2)), linewidth=1.6)
        text = f"threshold {threshold:.4g}"
        axes.text(threshold, 1.015, text, ha="center", color=palette.THRESHOLD, fontsize=9, transform=top)
    style = {"va": "top", "color": palette.MUTED, "fontsize": 9, "transform": axes.transAxes}
    if below := (values < low).sum():
        axes.text(0, 0.98, f"◂ {below} below", ha="left", **style)
    if beyond := (values > high).sum():
        axes.text(1, 0.98, f"{beyond} beyond ▸", ha="right", **style)
    note = "higher = more abnormal"
    if axis.width is not None:
        axes.set_xscale("function", functions=(axis.place, axis.score))
        axes.set_xticks(axis.ticks(), [f"{tick:,.12g}" for tick in axis.ticks()])
        note += "; far scores are drawn closer together"
    axes.set(xlim=(low, high), xlabel=f"anomaly score ({note})", ylabel="share of the class")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _ranked(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray]:
    """Cut points descending (K,) with the numbers of false and true alarms when score >= cut."""
    values, abnormal = np.asarray(scores, np.float64), np.asarray(labels).astype(bool)
    cuts, position = np.unique(values, return_inverse=True)
    normals, abnormals = (np.bincount(position[of], minlength=cuts.size)[::-1] for of in (~abnormal, abnormal))
    return cuts[::-1], np.cumsum(normals), np.cumsum(abnormals)


def _curve_axes(
    title: str, xlabel: str, ylabel: str, false: npt.NDArray, true: npt.NDArray
) -> tuple[Figure, Axes | None]:
    """A square figure and its axes, which are None, and a message drawn, without images of both classes."""
    figure = new_figure(4.8, 4.8)
    axes = figure.add_subplot()
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=xlabel, ylabel=ylabel, aspect="equal")
    axes.set_title(title)
    if false.any() and true.any():
        return figure, axes
    message(axes, "needs normal and abnormal images")
    return figure, None


@styled
def roc_curve(scores: npt.ArrayLike, labels: npt.ArrayLike, threshold: float | None = None) -> Figure:
    """Draw the true-positive against the false-positive rate, with the point where `threshold` lies."""
    cuts, false, true = _ranked(scores, labels)
    figure, axes = _curve_axes("ROC", "false-positive rate", "true-positive rate", false, true)
    if axes is None:
        return figure
    fpr, tpr = np.append(0, false / false[-1]), np.append(0, true / true[-1])
    axes.plot([0, 1], [0, 1], color=palette.MUTED, linewidth=1, linestyle=":")
    axes.fill_between(fpr, tpr, color=palette.NORMAL, alpha=0.08, linewidth=0)
    axes.plot(fpr, tpr, color=palette.NORMAL, label=f"AUROC {np.trapezoid(tpr, fpr):.3f}")
    if threshold is not None:
        at = int((cuts > threshold).sum())
        label = f"threshold: FPR {fpr[at]:.3f}, TPR {tpr[at]:.3f}"
        axes.plot(fpr[at], tpr[at], "o", color=palette.ABNORMAL, markersize=8, label=label)
    axes.legend(loc="lower right")
    return figure


@styled
def precision_recall_curve(scores: npt.ArrayLike, labels: npt.ArrayLike, threshold: float | None = None) -> Figure:
    """Draw the precision against the recall, with chance and the point where `threshold` lies."""
    cuts, false, true = _ranked(scores, labels)
    figure, axes = _curve_axes("Precision and recall", "recall", "precision", false, true)
    if axes is None:
        return figure
    recall, precision = true / true[-1], true / (true + false)
    area = float((np.diff(recall, prepend=0) * precision).sum())
    found = int(np.argmax(true > 0))  # before the first hit the precision is zero and tells nothing
    chance = true[-1] / (true[-1] + false[-1])
    axes.axhline(chance, color=palette.MUTED, linewidth=1, linestyle=":", label=f"chance {chance:.3f}")
    xs, ys = np.append(0, recall[found:]), np.append(precision[found], precision[found:])
    axes.step(xs, ys, where="pre", color=palette.NORMAL, label=f"AP {area:.3f}")
    at = 0 if threshold is None else int((cuts > threshold).sum())
    if at:  # without any alarm there is no precision to show
        label = f"threshold: precision {precision[at - 1]:.3f}, recall {recall[at - 1]:.3f}"
        axes.plot(recall[at - 1], precision[at - 1], "o", color=palette.ABNORMAL, markersize=8, label=label)
    axes.legend(loc="lower left")
    return figure
