"""A circuit board with parts: one layout for a whole data set, each copy placed and lit a little differently."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from drawn import blemishes
from drawn.fields import SIDE, Plane, Rng, noise

FINER = 3  # the board is drawn this many times larger and averaged
EDGE = 16  # pixels of board beyond the picture on each side, for copies that lie askew
WHOLE = SIDE + 2 * EDGE
MASK, COPPER, PAD, SILK = 0.30, 0.40, 0.80, 0.85  # reflectances


@dataclass(frozen=True)
class Part:
    """One part.

    Attributes:
        kind: a key of `KINDS`.
        at: (x, y) of its middle, in pixels seen from the middle of the board.
        turn: in degrees, anticlockwise.
        tone: added to the reflectance of its body.
    """

    kind: str
    at: tuple[float, float]
    turn: float = 0.0
    tone: float = 0.0


@dataclass(frozen=True)
class Layout:
    """What all copies of a board share.

    Attributes:
        parts: where they belong.
        bare: ((SIDE + 2 EDGE) FINER, same), the board without parts: traces, holes, pads, print.
        traces: the lines of copper, each (N, 2) as (x, y).
    """

    parts: tuple[Part, ...]
    bare: Image.Image = field(repr=False)
    traces: tuple[NDArray[np.float64], ...] = field(repr=False)


@dataclass(frozen=True)
class Board:
    """A copy of the board.

    Attributes:
        surface: (256, 256), reflectances.
        layout: that of all copies.
        parts: as they were placed on this one.
        lies: the six numbers with which Pillow turns and shifts the board into the picture.
        dirt: (256, 256), added.
    """

    surface: Plane = field(repr=False)
    layout: Layout = field(repr=False)
    parts: tuple[Part, ...] = field(repr=False)
    lies: tuple[float, ...]
    dirt: Plane = field(repr=False)


class Pen:
    """Draws in the coordinates of one part, or of the board, on a canvas `finer` times larger, whose middle is theirs."""

    def __init__(
        self, canvas: Image.Image, at: Sequence[float] = (0, 0), turn: float = 0.0, finer: float = FINER
    ) -> None:
        self.draw, self.finer = ImageDraw.Draw(canvas), finer
        self.middle = np.asarray(canvas.size) / 2
        angle = np.deg2rad(turn)
        self.turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        self.at = np.asarray(at, np.float64)

    def _points(self, points: Sequence[Sequence[float]] | NDArray) -> list[tuple[float, float]]:
        placed = (np.asarray(points) @ self.turned + self.at) * self.finer + self.middle
        return [(x, y) for x, y in placed]

    def box(self, x: float, y: float, width: float, height: float, tone: float) -> None:
        """A filled rectangle around (x, y)."""
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (width / 2, height / 2) + (x, y)
        self.draw.polygon(self._points(corners), fill=grey(tone))

    def disc(self, x: float, y: float, radius: float, tone: float) -> None:
        """A filled circle around (x, y)."""
        ((x, y),) = self._points([(x, y)])
        r = radius * self.finer
        self.draw.ellipse((x - r, y - r, x + r, y + r), fill=grey(tone))

    def line(self, points: Sequence[Sequence[float]] | NDArray, width: float, tone: float) -> None:
        """A line of straight pieces."""
        self.draw.line(self._points(points), fill=grey(tone), width=round(width * self.finer), joint="curve")


def grey(tone: float) -> int:
    """A reflectance as Pillow has it."""
    return int(np.clip(tone * 255, 0, 255))


def _resistor(pen: Pen, tone: float) -> None:
    pen.box(0, 0, 11, 6, 0.62)
    pen.box(0, 0, 7, 6, 0.14 + tone)
    for x in (-1.6, 0.0, 1.6):  # its value
        pen.box(x, 0, 0.9, 2.6, 0.5)


def _capacitor(pen: Pen, tone: float) -> None:
    pen.box(0, 0, 11, 6.4, 0.68)
    pen.box(0, 0, 7, 6.4, 0.52 + tone)


def _diode(pen: Pen, tone: float) -> None:
    pen.box(0, 0, 15, 3.4, 0.7)
    pen.box(0, 0, 11, 7, 0.16 + tone)
    pen.box(-3.6, 0, 1.6, 7, 0.72)  # which way round


def _transistor(pen: Pen, tone: float) -> None:
    for x, y in ((-3.4, 5.2), (3.4, 5.2), (0, -5.2)):
        pen.box(x, y, 2.6, 4, 0.7)
    pen.box(0, 0, 12, 6.6, 0.15 + tone)
    pen.box(0, -2.4, 12, 0.8, 0.25 + tone)


def _chip(pen: Pen, tone: float) -> None:
    for x in np.arange(-17.5, 18, 5):
        for y in (-12.5, 12.5):
            pen.box(x, y, 2.2, 5, 0.72)
    pen.box(0, 0, 42, 20, 0.13 + tone)
    pen.box(0, -9, 42, 1.4, 0.22 + tone)  # the light on its edge
    pen.disc(-17, 6, 1.8, 0.24 + tone)  # which way round
    for y, length in ((-3.5, 9), (1.5, 7)):
        for x in range(length):
            pen.box(-11 + 2.8 * x, y, 1.7, 2.6 - 0.8 * (x * 7 % 3 == 0), 0.42)


def _quad(pen: Pen, tone: float) -> None:
    for a in np.arange(-15, 16, 3.75):
        for sign in (-18.5, 18.5):
            pen.box(a, sign, 1.8, 4, 0.72)
            pen.box(sign, a, 4, 1.8, 0.72)
    pen.box(0, 0, 35, 35, 0.14 + tone)
    pen.box(0, -16.4, 35, 1.4, 0.22 + tone)
    pen.disc(-12.5, 12.5, 2.2, 0.25 + tone)
    for y, length in ((-6, 7), (-1, 8), (4, 5)):
        for x in range(length):
            pen.box(-9 + 2.8 * x, y, 1.7, 2.6 - 0.8 * (x * 5 % 3 == 0), 0.42)


def _can(pen: Pen, tone: float) -> None:
    pen.box(0, 0, 24, 24, 0.1)
    pen.disc(0, 0, 11, 0.74 + tone)
    pen.disc(0.6, 0.6, 10, 0.66 + tone)
    pen.line([(-9, -4), (-5.5, -8), (0, -9.6)], 2.4, 0.14)  # its negative side


def _crystal(pen: Pen, tone: float) -> None:
    pen.disc(-9, 0, 6, 0.7 + tone)
    pen.disc(9, 0, 6, 0.7 + tone)
    pen.box(0, 0, 18, 12, 0.7 + tone)
    pen.box(0, -3.4, 20, 1.6, 0.85 + tone)
    for x in (-6, -3, 0, 3, 6):
        pen.box(x, 1, 1.4, 2.6, 0.4)


def _header(pen: Pen, tone: float) -> None:
    pen.box(0, 0, 50, 9, 0.12 + tone)
    for x in np.arange(-21, 22, 8.4):
        pen.box(x, 0, 6.6, 7, 0.17 + tone)
        pen.box(x, 0, 2.6, 2.6, 0.85)


Drawer = Callable[[Pen, float], None]
Pad = tuple[float, float, float, float]  # x, y, width, height, seen from the middle of its part
# kind: how it is drawn, its width and height with its pads, its pads
KINDS: dict[str, tuple[Drawer, tuple[float, float], Sequence[Pad]]] = {
    "resistor": (_resistor, (15, 9), [(-4.8, 0, 4.6, 7.4), (4.8, 0, 4.6, 7.4)]),
    "capacitor": (_capacitor, (15, 9), [(-4.8, 0, 4.6, 7.6), (4.8, 0, 4.6, 7.6)]),
    "diode": (_diode, (19, 9), [(-7, 0, 4.6, 5.4), (7, 0, 4.6, 5.4)]),
    "transistor": (_transistor, (14, 17), [(-3.4, 6.4, 4, 4), (3.4, 6.4, 4, 4), (0, -6.4, 4, 4)]),
    "chip": (_chip, (46, 34), [(x, y, 3.2, 5) for x in np.arange(-17.5, 18, 5) for y in (-14, 14)]),
    "quad": (
        _quad,
        (46, 46),
        [(*p, 2.4, 4.6) for a in np.arange(-15, 16, 3.75) for p in ((a, -20), (a, 20))]
        + [(*p, 4.6, 2.4) for a in np.arange(-15, 16, 3.75) for p in ((-20, a), (20, a))],
    ),
    "can": (_can, (28, 28), [(-12, 0, 6, 4), (12, 0, 6, 4)]),
    "crystal": (_crystal, (34, 16), [(-15, 0, 4, 5), (15, 0, 4, 5)]),
    "header": (_header, (54, 13), [(x, 0, 5, 5) for x in np.arange(-21, 22, 8.4)]),
}
SMALL = ("resistor", "capacitor", "diode", "transistor")
BILL = ("quad", "chip", "can", "crystal", "header", "can", *SMALL * 9)


@cache
def layout(seed: int) -> Layout:
    """The board of a data set: parts where there is room for them, copper between them."""
    rng = np.random.default_rng(seed)
    parts = placed(rng, BILL, (SIDE, SIDE))
    traces = traced(rng, parts)
    canvas = Image.new("L", (WHOLE * FINER, WHOLE * FINER), grey(MASK))
    print_bare(Pen(canvas), parts, traces, rng.uniform(-WHOLE / 2, WHOLE / 2, (40, 2)))
    return Layout(tuple(parts), canvas, tuple(traces))


def placed(rng: Rng, bill: Sequence[str], size: tuple[float, float]) -> list[Part]:
    """Parts of these kinds, each where there is room for it on a board of (width, height), if there is."""
    taken: list[tuple[float, float, float, float]] = []
    parts = []
    for kind in bill:
        for _ in range(200):
            turn = float(rng.choice([0, 90]))
            width, height = KINDS[kind][1][:: 1 if turn == 0 else -1]
            limit = np.asarray(size) / 2 - 6 - np.array([width, height]) / 2
            x, y = (rng.uniform(-limit, limit) / 3).round() * 3
            box = (x - width / 2 - 2, y - height / 2 - 2, x + width / 2 + 2, y + height / 2 + 2)
            if all(box[0] > b[2] or b[0] > box[2] or box[1] > b[3] or b[1] > box[3] for b in taken):
                taken.append(box)
                parts.append(Part(kind, (float(x), float(y)), turn))
                break
    return parts


def traced(rng: Rng, parts: Sequence[Part]) -> list[NDArray[np.float64]]:
    """Copper from pad to pad, with corners of 45 degrees."""
    pads = np.concatenate([_pads(part)[:, :2] for part in parts])
    traces = []
    for start in pads:
        near = np.argsort(np.hypot(*(pads - start).T))
        end = pads[near[rng.integers(3, min(14, len(pads)))]]
        step = end - start
        diagonal = np.sign(step) * np.abs(step).min()
        corner = start + diagonal if rng.random() < 0.5 else end - diagonal
        traces.append(np.stack([start, corner, end]))
    return traces


def _pads(part: Part) -> NDArray[np.float64]:
    """The pads of a part as (x, y, width, height), on the board."""
    pads = np.asarray(KINDS[part.kind][2], np.float64)
    if part.turn:
        pads = np.stack([-pads[:, 1], pads[:, 0], pads[:, 3], pads[:, 2]], axis=1)
    return pads + np.array([*part.at, 0, 0])


def print_bare(pen: Pen, parts: Sequence[Part], traces: Sequence[NDArray], holes: NDArray) -> None:
    """Draw what a board is without its parts: traces, `holes` (N, 2) at (x, y), pads, print."""
    for trace in traces:
        pen.line(trace, 1.8, COPPER)
    for x, y in holes:
        pen.disc(x, y, 2.0, 0.6)
        pen.disc(x, y, 1.0, 0.08)
    for part in parts:
        width, height = KINDS[part.kind][1][:: 1 if part.turn == 0 else -1]
        (x, y), across, down = part.at, width / 2, height / 2
        pen.line([(x - across, y - down), (x + across, y - down)], 0.7, SILK)
        pen.line([(x - across, y + down), (x + across, y + down)], 0.7, SILK)
        for x, y, across, down in _pads(part):
            pen.box(x, y, across, down, PAD)


def draw(rng: Rng, seed: int) -> Board:
    """A copy of the board of a data set, as its parts happen to be placed and as it happens to lie."""
    shared = layout(seed)
    parts = tuple(
        replace(
            part,
            at=(part.at[0] + rng.normal(0, 0.4), part.at[1] + rng.normal(0, 0.4)),
            turn=part.turn + rng.normal(0, 1.2),
            tone=rng.normal(0, 0.02),
        )
        for part in shared.parts
    )
    angle, scale, (shift_x, shift_y) = np.deg2rad(rng.normal(0, 0.8)), rng.normal(1, 0.008), rng.normal(0, 2, 2)
    c, s = np.cos(angle) / scale, np.sin(angle) / scale
    middle, whole = SIDE * FINER / 2, WHOLE * FINER / 2
    to_x = c, s, whole - c * middle - s * middle + shift_x * FINER
    to_y = -s, c, whole + s * middle - c * middle + shift_y * FINER
    dirt = 0.008 * noise(rng, 12) + 0.01 * noise(rng, 1.0)
    bare = Board(np.zeros((SIDE, SIDE)), shared, parts, (*to_x, *to_y), dirt)
    return replace(bare, surface=assembled(bare, parts))


def assembled(board: Board, parts: Sequence[Part]) -> Plane:
    """The surface of a board with these parts on it."""
    canvas = board.layout.bare.copy()
    mount(canvas, parts)
    size = (SIDE * FINER, SIDE * FINER)
    seen = canvas.transform(size, Image.Transform.AFFINE, board.lies, Image.Resampling.BILINEAR).reduce(FINER)
    return np.asarray(seen, np.float64) / 255 + board.dirt


def mount(canvas: Image.Image, parts: Sequence[Part], finer: float = FINER) -> None:
    """Draw parts, each with its shadow, on a bare board."""
    for part in parts:
        make, (width, height), _ = KINDS[part.kind]
        shadow = Pen(canvas, (part.at[0] + 1.2, part.at[1] + 1.2), part.turn, finer)
        shadow.box(0, 0, width - 4, height - 3, 0.16)
        make(Pen(canvas, part.at, part.turn, finer), part.tone)


def _changed(board: Board, index: int, *instead: Part) -> Plane:
    """The board with other parts instead of one."""
    return assembled(board, [*board.parts[:index], *instead, *board.parts[index + 1 :]])


def _small(board: Board, rng: Rng) -> int:
    """Which part something happens to; small ones mostly, as there are more of them."""
    return int(rng.choice([i for i, part in enumerate(board.parts) if part.kind not in ("quad", "header")]))


def missing(board: Board, rng: Rng) -> Plane:
    """A part that is not there."""
    return _changed(board, _small(board, rng))


def misplaced(board: Board, rng: Rng) -> Plane:
    """A part that is askew, or beside its place."""
    index = _small(board, rng)
    part = board.parts[index]
    if rng.random() < 0.5:
        return _changed(board, index, replace(part, turn=part.turn + rng.choice([-1, 1]) * rng.uniform(9, 35)))
    direction, step = rng.uniform(0, 2 * np.pi), rng.uniform(3, 6)
    return _changed(
        board, index, replace(part, at=(part.at[0] + step * np.cos(direction), part.at[1] + step * np.sin(direction)))
    )


def wrong(board: Board, rng: Rng) -> Plane:
    """A part of another kind, or one the wrong way round."""
    index = _small(board, rng)
    part = board.parts[index]
    if part.kind in ("resistor", "capacitor"):
        return _changed(board, index, replace(part, kind="resistor" if part.kind == "capacitor" else "capacitor"))
    return _changed(board, index, replace(part, turn=part.turn + 180))


def scratch(board: Board, rng: Rng) -> Plane:
    """A scratch."""
    return blemishes.scratch(board.surface, rng, (0.12, 0.35), dark=0.2)


def solder(board: Board, rng: Rng) -> Plane:
    """Balls of solder."""
    return blemishes.specks(board.surface, rng, (5, 9), (0.3, 0.55), dark=0.0)


def stain(board: Board, rng: Rng) -> Plane:
    """Flux that was not washed off."""
    return blemishes.stain(board.surface, rng, (0.15, 0.4), (10, 26), dark=0.3)


DEFECTS = {
    "misplaced": misplaced,
    "missing": missing,
    "scratch": scratch,
    "solder": solder,
    "stain": stain,
    "wrong": wrong,
}
