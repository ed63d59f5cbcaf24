"""Image quality: how grades change as photographs get worse, and the lowest quality at which they hold.

The figures come from metrics.json (evaluate/stress.py), which has them after `foveal evaluate RUN --stress`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from foveal.evaluate.stress import CHANGES, limits
from foveal.page.charts import Line, Panel, series
from foveal.page.parts import Cell, Shown, muted, percent_cell
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


def stress(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Limits, curves and all figures of every grader that was stressed."""
    return [_of(finding, found) for finding in findings if (found := (finding.evidence.result or {}).get("stress"))]


def _of(finding: Finding, found: Mapping[str, Any]) -> dict[str, Any]:
    names, measured = list(found["untouched"]), {one["change"] for one in found["levels"]}
    whole = [shown for name in names for shown in (found["untouched"][name], muted("reference"))]
    rows: list[list[Shown]] = [["untouched", *whole, None, None]]
    for one in found["levels"]:
        figures = [shown for name in names for shown in (one[name], one["differences"][name])]
        holds = Cell(text="yes", tone="good") if one["holds"] else Cell(text="no", tone="bad")
        rows.append([f"{CHANGES[one['change']].title}: {one['words']}", *figures, percent_cell(one["changed"]), holds])
    columns = [column for name in names for column in (NAMES[name], "minus untouched")]
    return {
        "name": finding.name, "about": found["about"], "metric": SPOKEN[names[0]], "rows": rows,
        "columns": ["", *columns, "grades changed", "grades hold"],
        "panels": [_panel(found, *given) for given in PANELS if measured & set(given[2])],
        "limits": [_limit(*row, names[0]) for row in limits(found)],
    }  # fmt: skip


def _limit(title: str, held: str | None, broken: Mapping[str, Any] | None, name: str) -> list[Shown]:
    """A row: the change, the harshest level at which grades hold, and the figures of the first at which they do not."""
    if broken is None:
        return [title, Cell(text=str(held), small="the harshest level", tone="good"), None, None, None]
    reached = held or Cell(text="untouched only", tone="bad")
    return [title, reached, broken["words"], broken["differences"][name], percent_cell(broken["changed"])]


def _panel(found: Mapping[str, Any], title: str, axis: str, changes: Sequence[str], untouched: float | None) -> Panel:
    """Kappa, AUC and the share of changed grades over the levels of one or two changes."""
    whole = found["untouched"] | {"changed": {"value": 0.0}}
    start = found["about"]["size"] if untouched is None else untouched
    levels = [(math.log2(one["level"]) if "darker" in changes else one["level"], one)  # light in stops
              for one in found["levels"] if one["change"] in changes]  # fmt: skip
    points = sorted([(start, whole), *levels], key=lambda point: point[0])
    lines = [
        Line(label=label, x=[place for place, _ in points], y=[one[name]["value"] for _, one in points],
             look=f"dashed {series(2)}" if name == "changed" else series(k), dotted=True)
        for k, (name, label) in enumerate({name: NAMES.get(name, "Grades changed") for name in whole}.items())
    ]  # fmt: skip
    return Panel(title=title, x_label=axis, lines=lines, share=True)
