"""Image quality: how grades change as photographs get worse, and the lowest quality at which they hold.

The figures come from metrics.json (evaluate/stress.py), which has them after `foveal evaluate RUN --stress`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from foveal.evaluate.stress import CHANGES, limits
from foveal.page.charts import Line, Panel, series
from foveal.page.parts import Cell, difference_cell, muted, percent_cell, value_cell
from foveal.report.findings import Finding
from foveal.report.words import METRIC_NAMES, SPOKEN

# Title of a panel, its horizontal axis, the changes that it shows, and the place of untouched photographs (None: the
# side of the prepared image).
PANELS: Sequence[tuple[str, str, tuple[str, ...], float | None]] = (
    ("Resolution", "pixels across the prepared image", ("resolution",), None),
    ("Blur", "sigma in pixels of the prepared image (0: none)", ("blur",), 0),
    ("JPEG", "quality (100: not compressed again)", ("jpeg",), 100),
    ("Light", "stops (−1: half the light, +1: twice)", ("darker", "brighter"), 0),
    ("Colours", "colour of the light in kelvin (6,500: none)", ("warmer", "cooler"), 6500),
)
NAMES = METRIC_NAMES | {"auc": "Area under ROC"}


def stress(findings: Sequence[Finding]) -> dict[str, Any] | None:
    """Limits, curves and all figures of every grader that was stressed; None without any."""
    runs = [_of(finding, found) for finding in findings if (found := (finding.evidence.result or {}).get("stress"))]
    return {"runs": runs} if runs else None


def _of(finding: Finding, found: Mapping[str, Any]) -> dict[str, Any]:
    names = list(found["untouched"])
    whole = [cell for name in names for cell in (value_cell(found["untouched"][name]), muted("reference"))]
    rows = [["untouched", *whole, muted("–"), muted("–")]]
    for one in found["levels"]:
        figures = [
            cell for name in names for cell in (value_cell(one[name]), difference_cell(one["differences"][name]))
        ]
        holds = Cell(text="yes", tone="good") if one["holds"] else Cell(text="no", tone="bad")
        rows.append([f"{CHANGES[one['change']].title}: {one['words']}", *figures, percent_cell(one["changed"]), holds])
    columns = [column for name in names for column in (NAMES[name], "minus untouched")]
    panels = [panel for given in PANELS if (panel := _panel(found, *given)) is not None]
    return {
        "name": finding.name, "about": found["about"], "metric": SPOKEN[names[0]], "panels": panels, "rows": rows,
        "columns": ["", *columns, "grades changed", "grades hold"],
        "limits": [_limit(*row, names[0]) for row in limits(found)],
    }  # fmt: skip


def _limit(title: str, held: str | None, broken: Mapping[str, Any] | None, name: str) -> list[Cell | str]:
    """A row: the change, the harshest level at which grades hold, and the figures of the first at which they do not."""
    if broken is None:
        return [title, Cell(text=str(held), small="the harshest level", tone="good"), *[muted("–")] * 3]
    reached = Cell(text="untouched only", tone="bad") if held is None else held
    return [title, reached, broken["words"], difference_cell(broken["differences"][name]),
            percent_cell(broken["changed"])]  # fmt: skip


def _panel(
    found: Mapping[str, Any], title: str, axis: str, changes: Sequence[str], untouched: float | None
) -> Panel | None:
    """Kappa, AUC and the share of changed grades over the levels of one or two changes; None without levels."""
    levels = [one for one in found["levels"] if one["change"] in changes]
    if not levels:
        return None
    start = found["about"]["size"] if untouched is None else untouched
    points = sorted([(start, None), *((_place(one), one) for one in levels)], key=lambda point: point[0])
    at = [place for place, _ in points]
    lines = [Line(label=NAMES[name], x=at, colour=series(k), dotted=True,
                  y=[(found["untouched"] if one is None else one)[name]["value"] for _, one in points])
             for k, name in enumerate(found["untouched"])]  # fmt: skip
    changed = [0.0 if one is None else one["changed"]["value"] for _, one in points]
    lines.append(Line(label="Grades changed", x=at, y=changed, colour=series(2), dashed=True, dotted=True))
    return Panel(title=title, x_label=axis, lines=lines, share=True)


def _place(one: Mapping[str, Any]) -> float:
    """Where a level is on its axis; light in stops."""
    level = float(one["level"])
    return math.log2(level) if one["change"] in ("darker", "brighter") else level
