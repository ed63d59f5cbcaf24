"""Line charts with axes, and scales and shapes for other drawings; templates/parts.html draws them as SVG.

Colours are CSS classes ("series-1" to "series-6", "muted") that the style of the page defines for light and dark mode.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

COLOURS = 6  # the palette of Okabe & Ito, distinct also with colour vision deficiency
# Shapes around (0, 0) of visually equal size, as SVG paths that start with a relative move.
SHAPES = {"circle": "m-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0-7.2 0z", "square": "m-3.2-3.2h6.4v6.4h-6.4z",
          "triangle": "m0-4.2 4 7h-8z", "diamond": "m0-4.5 3.6 4.5-3.6 4.5-3.6-4.5z"}  # fmt: skip
MARKS = tuple(SHAPES)
FIFTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
# Size of a drawing (width, height), and its plot area (left, top, right, bottom).
WIDE = ((380, 240), (46, 8, 368, 194))
SQUARE = ((340, 320), (52, 8, 328, 272))


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
class Mark(Key):
    """One named point of a panel; shapes help if colours are hard to tell apart."""

    x: float
    y: float
    look: str = "series-2"
    shape: str = "circle"


@dataclass(frozen=True, kw_only=True)
class Level(Key):
    """A horizontal reference line."""

    value: float
    look: str = "level dotted"


@dataclass(frozen=True, kw_only=True)
class Line(Key):
    """One line of a panel: y over x; nan or None for a missing value. look: a colour, after `dashed` if it is."""

    x: Sequence[float]
    y: Sequence[float | None]
    look: str = "series-1"
    dotted: bool = False  # draw a dot at every value

    @property
    def points(self) -> list[tuple[float, float]]:
        """(x, y) pairs; y is nan at gaps in the line."""
        return [(x, math.nan if y is None else float(y)) for x, y in zip(self.x, self.y, strict=True)]

    def path(self, x: "Scale", y: "Scale") -> str:
        """The line as an SVG path, broken at gaps."""
        steps, pen = [], "M"
        for across, up in self.points:
            if not math.isnan(up):
                steps.append(f"{pen}{x(across):.1f} {y(up):.1f}")
            pen = "M" if math.isnan(up) else "L"
        return "".join(steps)

    def circles(self, best: float | None) -> list[tuple[str, float, float]]:
        """(CSS class, x, y) of the dots on the line, and of the ring at the epoch that was kept."""
        dots = [("dot", *point) for point in self.points if self.dotted or len(self.points) == 1]
        rings = [("ring", *point) for point in self.points if point[0] == best and "dashed" not in self.look]
        return [circle for circle in dots + rings if not math.isnan(circle[2])]


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
    def size(self) -> tuple[int, int]:
        """Width and height of the drawing."""
        return (SQUARE if self.square else WIDE)[0]

    @property
    def scales(self) -> tuple["Scale", "Scale"]:
        """The horizontal and the vertical axis, with some margin around the values."""
        left, top, right, bottom = (SQUARE if self.square else WIDE)[1]
        points = [point for line in self.lines for point in line.points if not math.isnan(point[1])]
        values = [value for _, value in points] + [level.value for level in self.levels]
        across, upwards = _padded([value for value, _ in points], 0.03), _padded(values, 0.12)
        if self.square:
            across = upwards = (-0.02, 1.02)
        elif self.share:
            upwards = min(0.0, min(values, default=0.0) - 0.05), 1.02
        return Scale(*across, left, right), Scale(*upwards, bottom, top)

    def ticks(self, scale: "Scale", most: int, *, whole: bool = False) -> list[tuple[float, str]]:
        """(value, label) of the ticks of an axis; whole: at whole numbers, if all x are whole."""
        whole = whole and all(float(value).is_integer() for line in self.lines for value in line.x)
        values = FIFTHS if self.square else ticks(scale.low, scale.high, most, whole=whole)
        digits = next((k for k in range(7) if all(abs(round(value, k) - value) < 1e-9 for value in values)), 7)
        return [(value, f"{value + 0.0:,.{digits}f}".replace("-", "−")) for value in values]

    @property
    def keys(self) -> list[Key]:
        """The legend; a single line needs no entry, since the title names it."""
        lines = [line for line in self.lines if line.label] if len(self.lines) > 1 else []
        kept = [Key(label="epoch kept", look="ring")] if self.best is not None else []
        return [*lines, *self.levels, *self.marks, *kept]

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
    steps = [factor * 10.0 ** math.floor(math.log10(least)) for factor in (1, 2, 2.5, 5, 10)]
    step = next(step for step in steps if step >= least * (1 - 1e-9) and not (whole and step % 1))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def fitted(places: np.ndarray, side: float, edge: float, outliers: float) -> np.ndarray:
    """Scale points [n, 2] to a square drawing of this side, with equal axes and y upwards.

    edge: margin on all sides. outliers: the share of the points at each end that are moved to the edge.
    """
    low, high = np.quantile(places, [outliers, 1 - outliers], axis=0)
    centred = np.clip((places - (low + high) / 2) / (max(high - low) or 1.0), -0.5, 0.5) * np.array([1, -1])
    return np.asarray(centred * (side - 2 * edge) + side / 2)


def _padded(values: Sequence[float], share: float) -> tuple[float, float]:
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = share * (high - low) or max(0.05 * abs(low), 1e-3)
    return low - room, high + room
