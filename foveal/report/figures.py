"""Small line charts as inline SVG, one look for all of them.

Each chart is one panel of its own, so that the page can set three side by side or one under the other on a phone and
the words stay readable. Colours are written as CSS variables of the page (with the light ones as fallback): the same
drawing is right on light, on dark and on paper. Words that come from files never enter a drawing; legends and titles
are HTML, which escapes them.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe & Ito's palette, told apart with every common kind of colour vision; the page lightens it for dark mode.
COLOURS = {
    "ink": "#1b2027",
    "muted": "#5a6472",
    "line": "#d8dde3",
    "paper": "#fefefe",
    "series-1": "#0072b2",
    "series-2": "#d55e00",
    "series-3": "#009e73",
    "series-4": "#cc79a7",
    "series-5": "#b98500",
    "series-6": "#56b4e9",
}
DASHES: dict[str, Any] = {"solid": "-", "dashed": (0, (4, 2)), "dotted": (0, (1, 2))}
FIFTHS = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
SHAPES = {"circle": "o", "square": "s", "triangle": "^", "diamond": "D"}
# Inches (the drawing is scaled to its column), and left, bottom, width and height of the axes, as shares of it.
WIDE = ((3.8, 2.4), (0.115, 0.19, 0.87, 0.78))
SQUARE = ((3.4, 3.2), (0.15, 0.145, 0.83, 0.835))
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "font.size": 8, "axes.spines.top": False, "axes.spines.right": False,
    "axes.spines.left": False, "axes.edgecolor": COLOURS["muted"], "axes.labelcolor": COLOURS["muted"],
    "xtick.color": COLOURS["muted"], "ytick.color": COLOURS["muted"], "axes.grid": True, "axes.grid.axis": "y",
    "grid.color": COLOURS["line"], "grid.linewidth": 0.7, "ytick.major.size": 0, "xtick.major.size": 3,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a panel: values by x, nan or None where there is none; `colour` is a key of COLOURS."""

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: str = "series-1"
    dashed: bool = False
    dotted: bool = False  # every value has a dot


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One named point of a panel; shapes tell marks apart where colours cannot."""

    label: str
    x: float
    y: float
    colour: str = "series-2"
    shape: str = "circle"  # a key of SHAPES


@dataclass(frozen=True, kw_only=True)
class Level:
    """A horizontal line that the others are to be seen against."""

    label: str
    value: float
    dashes: str = "dotted"  # "dotted" or "dashed"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A chart to draw: lines, horizontal levels, and a vertical mark at the epoch that was kept."""

    name: str  # unique on the page: it tells apart the ids inside the drawings
    title: str
    lines: Sequence[Line]
    x_label: str = "epoch"
    levels: Sequence[Level] = field(default_factory=tuple)
    best: int | None = None
    share: bool = False  # values of 0 to 1, drawn on that scale
    square: bool = False  # both axes go from 0 to 1
    y_label: str = ""
    marks: Sequence[Mark] = field(default_factory=tuple)

    def describe(self) -> str:
        """One sentence for those who cannot see the drawing."""
        if self.square:
            points = "; ".join(f"{mark.label} at {mark.x:.2f}, {mark.y:.2f}" for mark in self.marks)
            return f"{self.title}: {self.y_label} by {self.x_label}{f'. Marked: {points}' if points else ''}."
        said = [f"{line.label} from {first:.2f} to {last:.2f}" for line in self.lines if line.label
                for first, last in [_ends(line.y)] if not math.isnan(first)]  # fmt: skip
        return f"{self.title} by {self.x_label}: {'; '.join(said)}."


def _ends(values: Sequence[float | None]) -> tuple[float, float]:
    present = [value for value in values if value is not None]
    return (present[0], present[-1]) if present else (math.nan, math.nan)


def draw(panel: Panel) -> Markup:
    """The panel as an <svg> element without a size of its own."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": panel.name}):
        size, place = SQUARE if panel.square else WIDE
        figure = Figure(figsize=size)
        axes = figure.add_axes(place)  # the same for all: axes of neighbours line up
        for line in panel.lines:
            _draw_line(axes, line, panel.best)
        for level in panel.levels:
            axes.axhline(level.value, color=COLOURS["ink"], linewidth=1.1, linestyle=DASHES[level.dashes])
        for mark in panel.marks:
            look: dict[str, Any] = {"ms": 7.5, "mec": COLOURS["paper"], "mew": 1.2, "clip_on": False, "zorder": 5}
            axes.plot([mark.x], [mark.y], SHAPES[mark.shape], color=COLOURS[mark.colour], **look)
        _set_scale(axes, panel)
        stream = io.StringIO()
        figure.savefig(
            stream, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    return _inline(stream.getvalue(), panel)


def _draw_line(axes: Axes, line: Line, best: int | None) -> None:
    values = [math.nan if value is None else value for value in line.y]
    colour, dashes = COLOURS[line.colour], DASHES["dashed" if line.dashed else "solid"]
    axes.plot(
        line.x,
        values,
        color=colour,
        linewidth=1.7,
        linestyle=dashes,
        marker="o" if line.dotted or len(values) == 1 else "",
        ms=4,
    )
    if best is not None and not line.dashed:
        ring: dict[str, Any] = {"ms": 5.5, "mfc": COLOURS["paper"], "mec": colour, "mew": 1.7, "clip_on": False}
        axes.plot([best], [values[list(line.x).index(best)]], "o", **ring)


def _set_scale(axes: Axes, panel: Panel) -> None:
    axes.set_xlabel(panel.x_label)
    if panel.square:
        axes.set_ylabel(panel.y_label)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=FIFTHS, yticks=FIFTHS)
        return
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if panel.best is not None:
        axes.axvline(panel.best, color=COLOURS["muted"], linewidth=0.8, alpha=0.5, zorder=0)
    axes.margins(x=0.03, y=0.12)
    if panel.share:
        lowest = min((value for line in panel.lines for value in line.y if value is not None), default=0.0)
        axes.set_ylim(min(0.0, lowest - 0.05), 1.02)


def _inline(svg: str, panel: Panel) -> Markup:
    """The bare element: named for screen readers, ids unique on the page, colours left to the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>\s*", "", svg, flags=re.DOTALL)  # its style would hold for the whole page
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{panel.name}-", svg)
    for name, colour in COLOURS.items():
        svg = svg.replace(colour, f"var(--{name}, {colour})")
    size = re.search(r'viewBox="[^"]+"', svg)
    assert size is not None
    label = Markup.escape(panel.describe())
    head = f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {size.group()} role="img" aria-label="{label}"'
    return Markup(re.sub(r"<svg[^>]*", lambda _: head, svg, count=1))


def charts(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """Drawings with their titles and legends; a single line that the title names needs none."""
    return [
        {"title": panel.title, "svg": draw(panel), "lines": named if len(panel.lines) > 1 else [],
         "levels": panel.levels, "best": panel.best, "marks": panel.marks, "square": panel.square}
        for panel in panels for named in [[line for line in panel.lines if line.label]]
    ]  # fmt: skip
