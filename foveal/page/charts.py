"""Charts as inline SVG: line charts with axes, and scales, shapes and outlines for other drawings.

Colours are CSS classes ("series-1" to "series-6", "muted") that the style of the page defines, so that a drawing works
in light mode, dark mode and print. Text is escaped, because it may come from a file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

COLOURS = 6  # the palette of Okabe & Ito, distinct also with colour vision deficiency
# Shapes around (0, 0) of visually equal size, as SVG paths that start with a relative move.
SHAPES = {
    "circle": "m-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0-7.2 0z", "square": "m-3.2-3.2h6.4v6.4h-6.4z",
    "triangle": "m0-4.2 4 7h-8z", "diamond": "m0-4.5 3.6 4.5-3.6 4.5-3.6-4.5z", "bar": "m-1.6-4.4h3.2v8.8h-3.2z",
    "cross": "m-1.2-4h2.4v2.8h2.8v2.4h-2.8v2.8h-2.4v-2.8h-2.8v-2.4h2.8z",
    "dot": "m-1.6 0a1.6 1.6 0 1 0 3.2 0a1.6 1.6 0 1 0-3.2 0z",
}  # fmt: skip
MARKS = ("circle", "square", "triangle", "diamond")
FIFTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
# Size of a drawing (width, height), and its plot area (left, top, right, bottom).
WIDE = ((380, 240), (46, 8, 374, 194))
SQUARE = ((340, 320), (52, 8, 334, 272))


def series(number: int) -> str:
    """The CSS class for the colour of line or class `number`, from 0; colours repeat after six."""
    return f"series-{number % COLOURS + 1}"


@dataclass(frozen=True, kw_only=True)
class Key:
    """One entry of a legend: a shape (a key of SHAPES) or else a stroke; look: its CSS classes."""

    label: str
    look: str
    shape: str = ""

    def at(self, x: float, y: float) -> str:
        """The shape at a place, as an SVG path."""
        return f"M{x:.1f} {y:.1f}{SHAPES[self.shape]}"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a panel: y over x; nan or None for a missing value."""

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: str = "series-1"
    dashed: bool = False
    dotted: bool = False  # draw a dot at every value

    @property
    def points(self) -> list[tuple[float, float]]:
        """(x, y) pairs; y is nan at gaps in the line."""
        return [(x, math.nan if y is None else float(y)) for x, y in zip(self.x, self.y, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One named point of a panel; shapes help where colours are hard to tell apart."""

    label: str
    x: float
    y: float
    colour: str = "series-2"
    shape: str = "circle"


@dataclass(frozen=True, kw_only=True)
class Level:
    """A horizontal reference line; dashes: "dotted" or "dashed"."""

    label: str
    value: float
    dashes: str = "dotted"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A line chart: lines, horizontal levels, marks, and a vertical line at the epoch that was kept."""

    title: str
    lines: Sequence[Line]
    x_label: str = "epoch"
    y_label: str = ""
    levels: Sequence[Level] = ()
    marks: Sequence[Mark] = ()
    best: int | None = None
    share: bool = False  # values from 0 to 1: the axis shows this range
    square: bool = False  # both axes go from 0 to 1

    @property
    def svg(self) -> Markup:
        """The drawing."""
        return _draw(self)

    @property
    def keys(self) -> list[Key]:
        """The legend; a single line needs no entry, since the title names it."""
        lines = [line for line in self.lines if line.label] if len(self.lines) > 1 else []
        keys = [Key(label=line.label, look=f"{'dashed ' if line.dashed else ''}{line.colour}") for line in lines]
        keys += [Key(label=level.label, look=f"level {level.dashes}") for level in self.levels]
        keys += [Key(label=mark.label, look=mark.colour, shape=mark.shape) for mark in self.marks]
        return keys if self.best is None else [*keys, Key(label="epoch kept", look="ring")]

    def describe(self) -> str:
        """A text alternative for screen readers."""
        if self.square:
            points = "; ".join(f"{mark.label} at {mark.x:.2f}, {mark.y:.2f}" for mark in self.marks)
            return f"{self.title}: {self.y_label} by {self.x_label}{f'. Marked: {points}' if points else ''}."
        ends = [(line.label, [y for _, y in line.points if not math.isnan(y)]) for line in self.lines if line.label]
        said = [f"{label} from {values[0]:.2f} to {values[-1]:.2f}" for label, values in ends if values]
        return f"{self.title} by {self.x_label}: {'; '.join(said)}."


@dataclass(frozen=True)
class Scale:
    """A linear scale: maps values from `low` to `high` to positions from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The position of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, most: int, *, whole: bool = False) -> list[float]:
    """At most `most` + 1 round values between `low` and `high`, at steps of 1, 2, 2.5 or 5 times a power of ten."""
    least = max((high - low) / most, 1.0 if whole else 1e-12)
    power = 10.0 ** math.floor(math.log10(least))
    steps = [factor * power for factor in (1, 2, 2.5, 5, 10)]
    step = next(step for step in steps if step >= least * (1 - 1e-9) and not (whole and step % 1))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def fitted(
    places: np.ndarray, side: float, edge: float, *, flattest: float = 1.0, outliers: float = 0.0
) -> tuple[np.ndarray, int]:
    """Scale points [n, 2] to a drawing `side` wide, with equal axes and y upwards; returns them and the height.

    edge: margin on all sides. flattest: the least height as a share of the width. outliers: the share of the points at
    each end that are moved to the edge, so that a few far points do not squeeze the others together.
    """
    low, high = np.quantile(places, [outliers, 1 - outliers], axis=0)
    span = float(max(high - low)) or 1.0
    inner = side - 2 * edge
    height = round(2 * edge + inner * max(flattest, min(1.0, float(high[1] - low[1]) / span)))
    centred = np.clip((places - (low + high) / 2) / span, -0.5, 0.5) * np.array([1, -1]) * inner
    return centred + np.array([side / 2, height / 2]), height


def outline(counts: np.ndarray, width: float, height: float) -> str:
    """A histogram [bins] as an SVG path, scaled to its own peak."""
    tops = height - 1 - (height - 3) * counts / max(1, counts.max())
    right = np.linspace(0, width, len(counts) + 1)[1:]
    steps = "".join(f"V{top:.1f}H{x:.1f}" for top, x in zip(tops, right, strict=True))
    return f"M0 {height - 1:g}{steps}V{height - 1:g}Z"


def svg(width: float, height: float, label: str, content: Sequence[Markup]) -> Markup:
    """An <svg> element without a fixed size; label: the text alternative for screen readers."""
    head = Markup('<svg viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">').format(width, height, label)
    return Markup("").join([head, *content, Markup("</svg>")])


def _draw(panel: Panel) -> Markup:
    (width, height), (left, top, right, bottom) = SQUARE if panel.square else WIDE
    (x_low, x_high), (y_low, y_high) = _limits(panel)
    x, y = Scale(x_low, x_high, left, right), Scale(y_low, y_high, bottom, top)
    content = [*_axes(panel, x, y), *(_line(line, x, y, panel.best) for line in panel.lines)]
    for level in panel.levels:
        content.append(_stroke(f"level {level.dashes}", left, y(level.value), right, y(level.value)))
    for mark in panel.marks:
        path = f"M{x(mark.x):.1f} {y(mark.y):.1f}{SHAPES[mark.shape]}"
        content.append(Markup('<path class="mark {}" d="{}"/>').format(mark.colour, path))
    return svg(width, height, panel.describe(), content)


def _limits(panel: Panel) -> tuple[tuple[float, float], tuple[float, float]]:
    """The range of x and y, with some margin."""
    if panel.square:
        return (-0.02, 1.02), (-0.02, 1.02)
    points = [point for line in panel.lines for point in line.points if not math.isnan(point[1])]
    values = [value for _, value in points] + [level.value for level in panel.levels]
    across = _padded([value for value, _ in points], 0.03)
    if panel.share:
        return across, (min(0.0, min(values, default=0.0) - 0.05), 1.02)
    return across, _padded(values, 0.12)


def _padded(values: Sequence[float], share: float) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = share * (high - low) or max(0.05 * abs(low), 1e-3)
    return low - room, high + room


def _axes(panel: Panel, x: Scale, y: Scale) -> list[Markup]:
    """Grid, axis, ticks and their labels."""
    whole = all(float(value).is_integer() for line in panel.lines for value in line.x)
    across = FIFTHS if panel.square else ticks(x.low, x.high, 6, whole=whole)
    upwards = FIFTHS if panel.square else ticks(y.low, y.high, 5)
    found = [_stroke("grid", x.start, y(value), x.end, y(value)) for value in upwards]
    found.append(_stroke("axis", x.start, y.start, x.end, y.start))
    found += [_stroke("axis", x(value), y.start, x(value), y.start + 4) for value in across]
    found += [_text(x(value), y.start + 16, "middle", text) for value, text in _named(across)]
    found += [_text(x.start - 6, y(value) + 4, "end", text) for value, text in _named(upwards)]
    found.append(_text((x.start + x.end) / 2, y.start + 36, "middle", panel.x_label))
    if panel.y_label:
        turned = _text(-(y.start + y.end) / 2, 12, "middle", panel.y_label)
        found.append(Markup('<g transform="rotate(-90)">{}</g>').format(turned))
    return found if panel.best is None else [*found, _stroke("best", x(panel.best), y.start, x(panel.best), y.end)]


def _named(values: Sequence[float]) -> list[tuple[float, str]]:
    """(value, label) for an axis, with as many decimals as needed."""
    digits = next((k for k in range(7) if all(abs(round(value, k) - value) < 1e-9 for value in values)), 7)
    return [(value, f"{value + 0.0:,.{digits}f}".replace("-", "−")) for value in values]


def _line(line: Line, x: Scale, y: Scale, best: int | None) -> Markup:
    places = [(x(a), y(b)) for a, b in line.points]
    steps, pen = [], "M"
    for across, up in places:
        if math.isnan(up):
            pen = "M"
            continue
        steps.append(f"{pen}{across:.1f} {up:.1f}")
        pen = "L"
    drawn = [Markup('<path class="line {}{}" d="{}"/>').format(line.colour, " dashed" * line.dashed, "".join(steps))]
    if line.dotted or len(places) == 1:
        drawn += [_dot("dot", line.colour, *place) for place in places if not math.isnan(place[1])]
    if best is not None and not line.dashed:
        drawn += [_dot("ring", line.colour, *place) for place, at in zip(places, line.x, strict=True)
                  if at == best and not math.isnan(place[1])]  # fmt: skip
    return Markup("").join(drawn)


def _dot(look: str, colour: str, x: float, y: float) -> Markup:
    return Markup('<circle class="{} {}" cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(look, colour, x, y, 3)


def _stroke(look: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<path class="{}" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>').format(look, x1, y1, x2, y2)


def _text(x: float, y: float, anchor: str, words: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, words)
