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

from foveal.report.evidence import Evidence, best_epoch

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
MOST_CLASSES = 6  # lines that can be told apart in one panel
SIZE = (3.8, 2.4)  # inches; the drawing is scaled to its column
PLACE = (0.115, 0.19, 0.87, 0.78)  # left, bottom, width and height of the axes, as shares of the drawing
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

    def describe(self) -> str:
        """One sentence for those who cannot see the drawing."""
        said = [f"{line.label} from {first:.2f} to {last:.2f}" for line in self.lines
                for first, last in [_ends(line.y)] if not math.isnan(first)]  # fmt: skip
        return f"{self.title} by {self.x_label}: {'; '.join(said)}."


def _ends(values: Sequence[float | None]) -> tuple[float, float]:
    present = [value for value in values if value is not None]
    return (present[0], present[-1]) if present else (math.nan, math.nan)


def draw(panel: Panel) -> Markup:
    """The panel as an <svg> element without a size of its own."""
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": panel.name}):
        figure = Figure(figsize=SIZE)
        axes = figure.add_axes(PLACE)  # the same for all: axes of neighbours line up
        for line in panel.lines:
            _draw_line(axes, line, panel.best)
        for level in panel.levels:
            axes.axhline(level.value, color=COLOURS["ink"], linewidth=1.1, linestyle=DASHES[level.dashes])
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
        line.x, values, color=colour, linewidth=1.7, linestyle=dashes, marker="o" if len(values) == 1 else "", ms=4
    )
    if best is not None and not line.dashed:
        ring: dict[str, Any] = {"ms": 5.5, "mfc": COLOURS["paper"], "mec": colour, "mew": 1.7, "clip_on": False}
        axes.plot([best], [values[list(line.x).index(best)]], "o", **ring)


def _set_scale(axes: Axes, panel: Panel) -> None:
    axes.set_xlabel(panel.x_label)
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


def training_panels(run: Evidence, name: str) -> list[Panel]:
    """Loss, kappa and accuracy of training and validation, and the validation recall of a few classes."""
    best = best_epoch(run) if run.finished else None
    levels = _constant_accuracy(run)
    panels = [_pair(run, f"{name}-loss", "Loss", ("loss", "val_loss"), best)]
    if run.ordered:
        panels.append(_pair(run, f"{name}-kappa", "Quadratic kappa", ("train_kappa", "val_kappa"), best, share=True))
    panels.append(
        _pair(run, f"{name}-accuracy", "Accuracy", ("train_accuracy", "val_accuracy"), best, share=True, levels=levels)
    )
    if 2 <= len(run.classes) <= MOST_CLASSES and _has(run, "val_recall"):
        lines = [Line(label=label, x=_column(run, "epoch"), y=[row["val_recall"][k] for row in run.rows],
                      colour=f"series-{k + 1}") for k, label in enumerate(run.classes)]  # fmt: skip
        panels.append(
            Panel(name=f"{name}-recall", title="Validation recall by class", lines=lines, best=best, share=True)
        )
    return panels


def _constant_accuracy(run: Evidence) -> list[Level]:
    part = run.card.get("counts", {}).get("val", {})
    most = max(part.get("per_class", {}).values(), default=0)
    return [Level(label="constant answer", value=most / part["images"])] if most else []


def _pair(run: Evidence, name: str, title: str, keys: tuple[str, str], best: int | None, **rest: Any) -> Panel:
    epochs = _column(run, "epoch")
    lines = [Line(label="training", x=epochs, y=_column(run, keys[0]), colour="muted", dashed=True)]
    if _has(run, keys[1]):
        lines.append(Line(label="validation", x=epochs, y=_column(run, keys[1])))
    return Panel(name=name, title=title, lines=lines, best=best, **rest)


def pretraining_panels(run: Evidence, name: str) -> list[Panel]:
    """Loss between its bounds, alignment and uniformity, by step."""
    shown = {
        "loss": "Contrastive loss",
        "alignment": "Alignment (low is good)",
        "uniformity": "Uniformity (low is even)",
    }
    return [
        Panel(name=f"{name}-{key}", title=title, x_label="step", levels=_bounds(run) if key == "loss" else [],
              lines=[Line(label=key, x=_column(run, "step"), y=_column(run, key))])
        for key, title in shown.items() if _has(run, key)
    ]  # fmt: skip


def _bounds(run: Evidence) -> list[Level]:
    bounds = (("nothing learned", "loss_chance", "dotted"), ("lowest possible", "loss_floor", "dashed"))
    return [Level(label=f"{label}, {run.health[key]:.2f}", value=run.health[key], dashes=dashes)
            for label, key, dashes in bounds if key in run.health]  # fmt: skip


def _has(run: Evidence, key: str) -> bool:
    return bool(run.rows) and key in run.rows[0]


def _column(run: Evidence, key: str) -> list[Any]:
    return [row.get(key) for row in run.rows]
