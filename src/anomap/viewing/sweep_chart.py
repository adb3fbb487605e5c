"""A metric against a swept number, as the geometry of a chart that a template draws."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from anomap.runs.jobs import as_number
from anomap.runs.sweeps import Row, Summary, SweepTable
from anomap.viewing.metric_names import is_control, is_rate, name, tick
from anomap.viewing.sweep_tables import written

WIDTH, HEIGHT = 520, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 14, 44
_LABELS = 130  # further to the right, where lines to compare with are named
_INSET = 14  # so that no point lies on an axis
_MOST_LINES = 8  # more cannot be told apart: four colours, solid and dashed
_LABEL_GAP, _LINE_GAP = 44, 14  # pixels between labels of the x axis, and between names of lines
_LOGARITHMIC = 8  # from this ratio between the ends on

_CHANCE = {"image_auroc": 0.5, "pixel_auroc": 0.5, "estimate_auroc": 0.5}
_PROMISED = "promised_fpr"


class Point(NamedTuple):
    """One mean with its standard deviation."""

    x: float
    y: float
    low: float  # y of mean - sd, and of mean + sd
    high: float
    text: str


class Curve(NamedTuple):
    """One combination of the other keys."""

    name: str
    style: int
    points: list[Point]


class Reference(NamedTuple):
    """A line to compare with: chance, a control, a promise."""

    name: str
    points: list[tuple[float, float]]
    label_y: float


class Chart(NamedTuple):
    """Everything in pixels."""

    key: str
    title: str
    curves: list[Curve]
    references: list[Reference]
    left_out: int  # curves that are not drawn
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    frame: tuple[float, float, float, float]  # left, top, right, bottom


def charts(table: SweepTable) -> list[Chart]:
    """One for each numeric key and each metric that is not the same everywhere; controls are lines in that of the AUROC."""
    drawn = [metric for metric in table.metrics if not is_control(metric) or "image_auroc" not in table.metrics]
    drawn = [metric for metric in drawn if metric != _PROMISED or "test_fpr" not in table.metrics]
    drawn.sort(key=lambda metric: metric == "threshold")  # what it does says more than the raw score that it is
    found = (_chart(table, position, metric) for position in range(len(table.keys)) for metric in drawn)
    return [chart for chart in found if chart is not None]


def _chart(table: SweepTable, position: int, metric: str) -> Chart | None:
    lines: dict[tuple[str, ...], list[tuple[float, Summary]]] = {}
    for row in table.rows:
        x, summary = as_number(row.settings[position]), row.values.get(metric)
        if x is None:
            return None
        if summary is not None:
            lines.setdefault(row.settings[:position] + row.settings[position + 1 :], []).append((x, summary))
    every = [point for line in lines.values() for point in line]
    if len({summary.mean for _, summary in every}) < 2 or len({x for x, _ in every}) < 2:
        return None
    compared = _references(table, position, metric)
    right = WIDTH - (_LABELS if compared else _RIGHT)
    xs = sorted({x for x, _ in every})
    ends = [value for _, summary in every for value in _range(metric, summary)]
    ticks = _ticks([*ends, *(y for line in compared.values() for _, y in line)], 1.0 if is_rate(metric) else math.inf)
    place_x = _scale(xs, _LEFT + _INSET, right - _INSET)

    def place_y(value: float) -> float:
        return round(_TOP + (HEIGHT - _TOP - _BOTTOM) * (ticks[-1] - value) / (ticks[-1] - ticks[0]), 1)

    def place(x: float, summary: Summary) -> Point:
        text = f"{table.keys[position]}={x:g}: {written(metric, summary, 0)}"
        low, high = _range(metric, summary)
        return Point(place_x(x), place_y(summary.mean), place_y(low), place_y(high), text)

    curves = [
        Curve("/".join(names), style, [place(x, summary) for x, summary in sorted(line, key=lambda p: p[0])])
        for style, (names, line) in enumerate(lines.items())
    ]
    placed = {text: [(place_x(x), place_y(y)) for x, y in line] for text, line in compared.items()}
    labels = _spread({text: line[-1][1] for text, line in placed.items()})
    return Chart(
        table.keys[position],
        name(metric),
        curves[:_MOST_LINES],
        [Reference(text, line, labels[text]) for text, line in placed.items()],
        max(0, len(curves) - _MOST_LINES),
        _thinned([(place_x(x), f"{x:g}") for x in xs]),
        [(place_y(value), tick(metric, value)) for value in ticks],
        (_LEFT, _TOP, right, HEIGHT - _BOTTOM),
    )


def _range(metric: str, summary: Summary) -> tuple[float, float]:
    """Mean - sd and mean + sd, of a rate within [0, 1]."""
    low, high = (summary.mean + sign * (summary.sd or 0.0) for sign in (-1, 1))
    return (max(low, 0.0), min(high, 1.0)) if is_rate(metric) else (low, high)


def _references(table: SweepTable, position: int, metric: str) -> dict[str, list[tuple[float, float]]]:
    """What a metric is compared with, by its name: a line over the swept numbers."""
    found: dict[str, Callable[[Row], float | None]] = {}
    if metric in _CHANCE:
        found["chance"] = lambda row: _CHANCE[metric]
    compared = [other for other in table.metrics if metric == "image_auroc" and is_control(other)]
    for other in [*compared, *([_PROMISED] if metric == "test_fpr" and _PROMISED in table.metrics else [])]:
        found[name(other).removeprefix("control: ")] = lambda row, other=other: _mean(row, other)
    lines = {text: _line(table.rows, position, value) for text, value in found.items()}
    return {text: line for text, line in lines.items() if line}


def _mean(row: Row, metric: str) -> float | None:
    return row.values[metric].mean if metric in row.values else None


def _line(rows: Iterable[Row], position: int, value: Callable[[Row], float | None]) -> list[tuple[float, float]]:
    """The mean of `value` over the rows at each number of the swept key."""
    at: dict[float, list[float]] = {}
    for row in rows:
        if (y := value(row)) is not None:
            at.setdefault(float(row.settings[position]), []).append(y)
    return [(x, statistics.fmean(ys)) for x, ys in sorted(at.items())]


def _scale(xs: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    """Sorted numbers on the x axis: by their logarithm if they span much; shares close to 1 by that of what is missing."""

    def missing(value: float) -> float:
        return -math.log(1 - value)

    scaled: Callable[[float], float] = float
    if xs[0] > 0 and xs[-1] < 1 and (1 - xs[0]) / (1 - xs[-1]) >= _LOGARITHMIC:
        scaled = missing
    elif xs[0] > 0 and xs[-1] / xs[0] >= _LOGARITHMIC:
        scaled = math.log
    low, high = scaled(xs[0]), scaled(xs[-1])
    return lambda value: round(start + (end - start) * (scaled(value) - low) / (high - low), 1)


def _ticks(values: Sequence[float], most: float = math.inf) -> list[float]:
    """Three to seven round numbers that enclose the values, up to `most`."""
    low, high = min(values), max(values)
    rough = (high - low or abs(high) or 1.0) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [number * step for number in range(first, max(last, first + 1) + 1)]
    if ticks[-1] > most:  # the values end there, though no round number does
        ticks = [*(value for value in ticks if value < most - step / 4), most]
        ticks = ticks if len(ticks) > 1 else [most - step, most]
    return ticks


def _spread(wanted: dict[str, float]) -> dict[str, float]:
    """The heights of labels, moved down where they would overlap, and up again where that leaves the chart."""
    order = sorted(wanted, key=lambda text: wanted[text])
    placed: list[float] = []
    for text in order:
        placed.append(max(wanted[text], placed[-1] + _LINE_GAP) if placed else wanted[text])
    limit = float(HEIGHT - _BOTTOM)
    for number in reversed(range(len(placed))):
        placed[number] = limit = min(placed[number], limit)
        limit -= _LINE_GAP
    return dict(zip(order, placed, strict=True))


def _thinned(ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Labels that do not overlap; the last one, the end of the axis, always stays."""
    kept: list[tuple[float, str]] = []
    for label in reversed(ticks):
        if not kept or kept[-1][0] - label[0] >= _LABEL_GAP:
            kept.append(label)
    return kept[::-1]
