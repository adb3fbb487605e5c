"""Figures of a run, as matplotlib objects that no window system and no global state ever touch.

Each function returns a `Figure`; `save_figure` writes it. Anomaly maps are always drawn on a scale the caller
fixes for the whole test set: stretching each map by itself makes every good image look hot.
"""

import io
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from scipy import ndimage

from anomap.runs.folder import write_atomically
from anomap.runs.scores import ScoreRow
from anomap.viewing import palette
from anomap.viewing.selection import worst_false_alarms, worst_misses

Scale = tuple[float, float]

_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 12,
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
    "grid.linewidth": 0.8,
    "text.color": palette.INK,
    "xtick.color": palette.MUTED,
    "ytick.color": palette.MUTED,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "text.parse_math": False,  # a file name may hold dollar signs
}

# A tail that reaches this many times further than the bulk is gathered into the last bin.
_OUTLIER_REACH = 0.5


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int = 150) -> None:
    """Write `figure` atomically, in the format of the suffix (png, svg, pdf)."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format=Path(path).suffix.lstrip(".") or "png", dpi=dpi, facecolor="white")
    write_atomically(path, buffer.getvalue())


def _message(axes: Axes, text: str) -> None:
    axes.text(0.5, 0.5, text, ha="center", va="center", color=palette.MUTED, transform=axes.transAxes)


def robust_range(scores: npt.NDArray[np.float64], threshold: float | None = None) -> Scale:
    """The range in which to draw scores: all of them, unless a few outliers would squash the bulk.

    The bulk is what lies between the 1 % and 99 % quantiles; an end further away than `_OUTLIER_REACH` bulk
    widths is cut. The threshold is always inside, and the range is never empty.
    """
    low, high = np.quantile(scores, (0.01, 0.99))
    reach = _OUTLIER_REACH * (high - low)
    start, stop = max(scores.min(), low - reach), min(scores.max(), high + reach)
    if threshold is not None:
        start, stop = min(start, threshold), max(stop, threshold)
    margin = 0.03 * (stop - start) or 0.5 * max(abs(start), 1e-6)
    return float(start - margin), float(stop + margin)


def score_distribution(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    threshold: float | None = None,
    title: str = "Anomaly scores",
) -> Figure:
    """Draw the scores of normal (blue) and abnormal (orange) images as histograms with shared bins.

    Heights are shares of each class, so that a rare class stays visible; the legend has the counts. Outliers
    are gathered in the outermost bins and counted there.

    Args:
        scores: (N,) raw anomaly scores, N >= 1.
        labels: (N,) 0 normal, 1 abnormal.
        threshold: drawn as a line.
        title: the figure's title.
    """
    values, classes = np.asarray(scores, np.float64), np.asarray(labels)
    low, high = robust_range(values, threshold)
    bins = np.linspace(low, high, min(60, max(24, int(2 * math.sqrt(values.size)))))
    with matplotlib.rc_context(_STYLE):
        figure = _figure(7.5, 4.2)
        axes = figure.add_subplot()
        for label, (colour, name) in enumerate(zip(palette.CLASS_COLOURS, palette.CLASS_NAMES, strict=True)):
            own = values[classes == label]
            if own.size:
                share = np.full(own.size, 1 / own.size)
                style: dict[str, Any] = {"bins": bins, "weights": share, "color": colour}
                axes.hist(np.clip(own, low, high), alpha=0.45, label=f"{name} ({own.size:,})", **style)
                axes.hist(np.clip(own, low, high), histtype="step", linewidth=1.4, **style)
        if threshold is not None:
            axes.axvline(threshold, color=palette.THRESHOLD, linestyle=(0, (4, 2)), linewidth=1.6)
            axes.annotate(
                f"threshold {threshold:.4g}",
                (threshold, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                color=palette.THRESHOLD,
                fontsize=9,
            )
        for beyond, x, align, arrow in (
            (int((values < low).sum()), 0.0, "left", "◂ {} below"),
            (int((values > high).sum()), 1.0, "right", "{} beyond ▸"),
        ):
            if beyond:
                style = {"ha": align, "va": "top", "color": palette.MUTED, "fontsize": 9}
                axes.text(x, 0.98, arrow.format(beyond), transform=axes.transAxes, **style)
        axes.set(xlim=(low, high), xlabel="anomaly score (higher = more abnormal)", ylabel="share of the class")
        axes.set_title(title, pad=22)
        figure.legend(loc="outside lower center", ncols=2)
    return figure


def _ranked(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[npt.NDArray, npt.NDArray, npt.NDArray]:
    """Cut points descending (K,) with the numbers of false and true alarms when score >= cut."""
    values, abnormal = np.asarray(scores, np.float64), np.asarray(labels).astype(bool)
    cuts, position = np.unique(values, return_inverse=True)
    normals = np.bincount(position[~abnormal], minlength=cuts.size)[::-1]
    abnormals = np.bincount(position[abnormal], minlength=cuts.size)[::-1]
    return cuts[::-1], np.cumsum(normals), np.cumsum(abnormals)


def _square_axes(figure: Figure, title: str, xlabel: str, ylabel: str) -> Axes:
    axes = figure.add_subplot()
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=xlabel, ylabel=ylabel, aspect="equal")
    axes.set_title(title)
    return axes


def roc_curve(scores: npt.ArrayLike, labels: npt.ArrayLike, threshold: float | None = None) -> Figure:
    """Draw the true-positive against the false-positive rate, with the point where `threshold` lies."""
    cuts, false, true = _ranked(scores, labels)
    with matplotlib.rc_context(_STYLE):
        figure = _figure(4.8, 4.8)
        axes = _square_axes(figure, "ROC", "false-positive rate", "true-positive rate")
        if not (false.any() and true.any()):
            _message(axes, "needs normal and abnormal images")
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


def precision_recall_curve(scores: npt.ArrayLike, labels: npt.ArrayLike, threshold: float | None = None) -> Figure:
    """Draw the precision against the recall, with chance and the point where `threshold` lies."""
    cuts, false, true = _ranked(scores, labels)
    with matplotlib.rc_context(_STYLE):
        figure = _figure(4.8, 4.8)
        axes = _square_axes(figure, "Precision and recall", "recall", "precision")
        if not (false.any() and true.any()):
            _message(axes, "needs normal and abnormal images")
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


def to_rgb_image(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Make (H, W, 3) uint8 of a stored image (C, H, W) or (H, W); other than 3 channels become their mean."""
    if image.ndim == 2:
        image = image[None]
    if image.shape[0] != 3:
        image = np.rint(image.mean(axis=0, keepdims=True)).astype(np.uint8)
    return np.broadcast_to(np.moveaxis(image, 0, -1), (*image.shape[1:], 3)).copy()


def _plane(anomaly_map: npt.NDArray, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    plane = np.asarray(anomaly_map, np.float64)
    plane = plane[0] if plane.ndim == 3 and plane.shape[0] == 1 else plane
    if plane.shape != shape:
        raise ValueError(f"a map or mask of {plane.shape} does not fit an image of {shape}")
    return plane


def outline(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Inner border pixels of a region (H, W); the image's own edge is no border."""
    return region & ~ndimage.binary_erosion(region, border_value=1)


def overlay(
    image: npt.NDArray[np.uint8],
    anomaly_map: npt.NDArray,
    scale: Scale,
    threshold: float | None = None,
) -> npt.NDArray[np.uint8]:
    """Lay an anomaly map over its image: what is normal stays as it is, what is abnormal glows.

    Args:
        image: (C, H, W) or (H, W) uint8.
        anomaly_map: (1, H, W) or (H, W).
        scale: anomalies that are fully transparent and fully hot, the same for all images compared.
        threshold: pixels above it are outlined.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: the map is of another size, or the scale is empty.
    """
    rgb = to_rgb_image(image)
    plane = _plane(anomaly_map, rgb.shape[:2])
    low, high = scale
    if not low < high:
        raise ValueError(f"the scale must ascend, not {scale}")
    heat = np.clip((plane - low) / (high - low), 0, 1)
    # The darkest third of the colours would darken the image instead of marking it.
    colours = matplotlib.colormaps[palette.HEAT](1 / 3 + heat * 2 / 3)[..., :3] * 255
    opacity = 0.8 * heat[..., None] ** 1.5  # so that slight, everyday anomaly leaves no haze
    blended = np.rint(rgb * (1 - opacity) + colours * opacity).astype(np.uint8)
    if threshold is not None:
        blended[outline(plane > threshold)] = palette.rgb(palette.CONTOUR)
    return blended


def _show(axes: Axes, pixels: npt.NDArray, **options: Any) -> None:
    axes.imshow(pixels, interpolation="nearest", **options)
    axes.set_axis_off()


def shorten_name(name: str, length: int) -> str:
    """The end of a file name, printable, at most `length` characters."""
    printable = "".join(character if character.isprintable() else "?" for character in name)
    return printable if len(printable) <= length else f"…{printable[1 - length :]}"


def attention_map_grid(
    images: Sequence[npt.NDArray[np.uint8]],
    maps: Sequence[npt.NDArray],
    scale: Scale,
    *,
    names: Sequence[str],
    labels: Sequence[int],
    scores: Sequence[float],
    masks: Sequence[npt.NDArray] | None = None,
    threshold: float | None = None,
) -> Figure:
    """Draw one row per image: image, anomaly map, overlay, and the mask's outline if there are masks.

    Args:
        images: N of (C, H, W) uint8.
        maps: N anomaly maps (H, W) or (1, H, W).
        scale: the fixed range of the colours, the same in every row.
        names: written over each row, like `labels` (0 or 1) and `scores`.
        labels: 0 normal, 1 abnormal.
        scores: raw anomaly scores.
        masks: N ground-truth masks (H, W) or (1, H, W), 1 = abnormal.
        threshold: pixel threshold outlined in the overlay.
    """
    columns = ["image", "anomaly map", "overlay"] + (["mask"] if masks is not None else [])
    with matplotlib.rc_context(_STYLE):
        figure = _figure(2.0 * len(columns) + 0.6, 2.25 * len(images) + 0.5)
        grid = figure.subplots(len(images), len(columns), squeeze=False)
        for row, (axes, image, anomaly_map) in enumerate(zip(grid, images, maps, strict=True)):
            rgb = to_rgb_image(image)
            plane = _plane(anomaly_map, rgb.shape[:2])
            _show(axes[0], rgb)
            _show(axes[1], plane, cmap=palette.HEAT, vmin=scale[0], vmax=scale[1])
            _show(axes[2], overlay(image, plane, scale, threshold))
            if masks is not None:
                marked = rgb.copy()
                marked[outline(_plane(masks[row], rgb.shape[:2]) > 0)] = palette.rgb(palette.CONTOUR)
                _show(axes[3], marked)
            label = int(labels[row])
            name = shorten_name(names[row], 18 * len(columns) - 30)
            text = f"{name} · {palette.CLASS_NAMES[label]} · {scores[row]:.4g}"
            style: dict[str, Any] = {"fontsize": 9, "fontweight": "normal", "pad": 4}
            axes[0].set_title(text, color=palette.CLASS_COLOURS[label], **style)
            axes[0].title.set_in_layout(False)  # it runs on over the next columns, on purpose
        for axes, column in zip(grid[-1], columns, strict=True):
            axes.text(0.5, -0.04, column, transform=axes.transAxes, ha="center", va="top", color=palette.MUTED)
        colours = ScalarMappable(Normalize(*scale), palette.HEAT)
        bar = figure.colorbar(colours, ax=grid, shrink=min(1.0, 3 / len(images)), aspect=30, pad=0.02)
        bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def worst_mistakes(
    rows: Sequence[ScoreRow],
    images: Sequence[npt.NDArray[np.uint8]],
    maps: Sequence[npt.NDArray] | None = None,
    scale: Scale | None = None,
    *,
    count: int = 6,
) -> Figure:
    """Draw the abnormal images with the lowest scores among the misses, and the worst false alarms.

    Args:
        rows: N lines of `scores.csv`.
        images: N of (C, H, W) uint8, in the order of `rows`.
        maps: N anomaly maps; with them each image has its overlay below.
        scale: fixed range of the maps, required with `maps`.
        count: how many of each kind at most.
    """
    if maps is not None and scale is None:
        raise ValueError("maps need a scale")
    kinds = (
        ("Worst misses: abnormal, decided normal", worst_misses(rows, count), palette.ABNORMAL),
        ("Worst false alarms: normal, decided abnormal", worst_false_alarms(rows, count), palette.NORMAL),
    )
    lines = 1 if maps is None else 2
    with matplotlib.rc_context(_STYLE):
        figure = _figure(1.9 * count, 2 * (1.9 * lines + 0.7))
        halves = figure.add_gridspec(2, 1)
        for line, (title, chosen, colour) in enumerate(kinds):
            part = figure.add_subfigure(halves[line])
            part.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=12)
            grid = part.subplots(lines, count, squeeze=False)
            for axes in grid.flat:
                axes.set_axis_off()
            if not chosen:
                grid[0, 0].text(0, 0.5, "none at this threshold", color=palette.MUTED, transform=grid[0, 0].transAxes)
            for column, index in enumerate(chosen):
                row = rows[index]
                _show(grid[0, column], to_rgb_image(images[index]))
                text = f"{shorten_name(row.path, 22)}\n{shorten_name(row.defect, 12)} · {row.score:.4g}"
                style: dict[str, Any] = {"fontsize": 7.5, "fontweight": "normal", "pad": 3}
                grid[0, column].set_title(text, color=colour, **style)
                if maps is not None and scale is not None:
                    _show(grid[1, column], overlay(images[index], maps[index], scale))
    return figure


def training_curve(history: Mapping[str, tuple[Sequence[float], Sequence[float]]], xlabel: str = "epoch") -> Figure:
    """Draw one small panel per quantity, since losses live on different scales.

    Args:
        history: name -> (positions, values), at least one; values may hold NaN, which leaves a gap.
        xlabel: what the positions are.
    """
    columns = min(3, len(history))
    lines = math.ceil(len(history) / columns)
    with matplotlib.rc_context(_STYLE):
        figure = _figure(3.4 * columns, 2.5 * lines)
        grid = figure.subplots(lines, columns, squeeze=False, sharex=True)
        for axes in grid.flat[len(history) :]:
            axes.set_axis_off()
        for axes, (name, (positions, values)) in zip(grid.flat, history.items(), strict=False):
            axes.plot(positions, values, color=palette.NORMAL, marker="o" if len(values) < 15 else "", markersize=4)
            axes.set_title(name, fontsize=10)
        for axes in grid.flat[max(0, len(history) - columns) : len(history)]:  # nothing is drawn below these
            axes.tick_params(labelbottom=True)
            axes.set_xlabel(xlabel)
    return figure
