"""A metric against a swept number, as the geometry of a chart that a template draws."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from anomap.runs.jobs import as_number
from anomap.runs.sweeps import Summary, SweepTable
from anomap.viewing.sweep_tables import written

WIDTH, HEIGHT = 520, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 16, 14, 44
_MOST_LINES = 8  # more cannot be told apart: four colours, solid and dashed
_LABEL_GAP = 44  # pixels between labels of the x axis
_LOGARITHMIC = 20  # from this ratio between the ends on


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


class Chart(NamedTuple):
    """Everything in pixels."""

    key: str
    metric: str
    curves: list[Curve]
    left_out: int  # curves that are not drawn
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    frame: tuple[float, float, float, float] = (_LEFT, _TOP, WIDTH - _RIGHT, HEIGHT - _BOTTOM)


def charts(table: SweepTable) -> list[Chart]:
    """One for each numeric key and each metric that is not the same everywhere."""
    drawn = (_chart(table, position, metric) for position in range(len(table.keys)) for metric in table.metrics)
    return [chart for chart in drawn if chart is not None]


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
    xs = sorted({x for x, _ in every})
    scaled = math.log if xs[0] > 0 and xs[-1] / xs[0] >= _LOGARITHMIC else float
    ticks = _ticks([s.mean + sign * (s.sd or 0) for _, s in every for sign in (-1, 1)])

    def place_x(value: float) -> float:
        low, high, at = scaled(xs[0]), scaled(xs[-1]), scaled(value)
        inset = 14  # so that no point lies on the axis
        return round(_LEFT + inset + (WIDTH - _LEFT - _RIGHT - 2 * inset) * (at - low) / (high - low), 1)

    def place_y(value: float) -> float:
        return round(_TOP + (HEIGHT - _TOP - _BOTTOM) * (ticks[-1] - value) / (ticks[-1] - ticks[0]), 1)

    def place(x: float, summary: Summary) -> Point:
        text = f"{table.keys[position]}={x:g}: {written(metric, summary, 0)}"
        return Point(place_x(x), *(place_y(summary.mean + sign * (summary.sd or 0.0)) for sign in (0, -1, 1)), text)

    curves = [
        Curve("/".join(name), style, [place(x, summary) for x, summary in sorted(line, key=lambda p: p[0])])
        for style, (name, line) in enumerate(lines.items())
    ]
    x_ticks = _thinned([(place_x(x), f"{x:g}") for x in xs])
    y_ticks = [(place_y(tick), f"{tick:.6g}") for tick in ticks]
    left_out = max(0, len(curves) - _MOST_LINES)
    return Chart(table.keys[position], metric, curves[:_MOST_LINES], left_out, x_ticks, y_ticks)


def _ticks(values: Sequence[float]) -> list[float]:
    """Four to seven round numbers that enclose the values."""
    low, high = min(values), max(values)
    rough = (high - low or abs(high) or 1.0) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def _thinned(ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Labels that do not overlap; the last one, the end of the axis, always stays."""
    kept: list[tuple[float, str]] = []
    for tick in reversed(ticks):
        if not kept or kept[-1][0] - tick[0] >= _LABEL_GAP:
            kept.append(tick)
    return kept[::-1]
