"""The results as one picture of bars."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anomap.viewing.palette import ABNORMAL, GRID, INK, MUTED, NORMAL
from benchmark.plan import ADVERSARIAL, IMAGE_COUNTS

Results = Mapping[str, Any]
Bar = tuple[str, float | None, str]  # name, value, colour

_PEERS = (
    ("anomalib", "anomalib_{}", MUTED),
    ("same layers", "{}_same_network", NORMAL),
    ("default", "{}_default", ABNORMAL),
)


def chart(results: Results) -> Figure:
    """Training and scoring beside the peer, shares of the machine's peak, memory; a panel without numbers says so."""
    peers = {
        kind: [(name, results.get(pattern.format(f"{kind}_images_per_second")), c) for name, pattern, c in _PEERS]
        for kind in ("train", "score")
    }
    shares = [(method, results.get(f"roofline_share_train_{method}"), NORMAL) for method in ADVERSARIAL]
    memory = [
        (f"{command} {count // 1000}k", results.get(f"{command}_rss_mb_{count // 1000}k"), colour)
        for command, colour in (("train", NORMAL), ("evaluate", MUTED), ("predict", ABNORMAL))
        for count in IMAGE_COUNTS
    ]
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    axes = figure.subplots(2, 2)
    _bars(axes[0, 0], "Training, images/s", peers["train"], "{:,.0f}")
    _bars(axes[0, 1], "Scoring from files, images/s", peers["score"], "{:,.0f}")
    _bars(axes[1, 0], "Training, share of the machine's peak", shares, "{:.2f}")
    _bars(axes[1, 1], "Peak memory, MB", memory, "{:,.0f}")
    return figure


def _bars(axes: Axes, title: str, bars: Sequence[Bar], form: str) -> None:
    shown = [(name, value, colour) for name, value, colour in bars if value is not None]
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.tick_params(length=0, labelcolor=INK)
    if not shown:
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", color=MUTED, transform=axes.transAxes)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    names, values, colours = zip(*shown, strict=True)
    drawn = axes.barh(range(len(shown)), values, color=colours, height=0.7)
    axes.bar_label(drawn, [form.format(value) for value in values], padding=4, color=INK, fontsize=9)
    axes.set_yticks(range(len(shown)), names)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
