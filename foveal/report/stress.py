"""Image quality: how grades change as photographs get worse, and the lowest quality at which they hold.

The figures come from metrics.json (evaluate/stress.py), which has them after `foveal evaluate RUN --stress`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from foveal.evaluate.stress import CHANGES, limits
from foveal.page.parts import Cell, Shown, muted, percent_cell
from foveal.report.findings import Finding
from foveal.report.words import METRIC_NAMES, SPOKEN

NAMES = METRIC_NAMES | {"auc": "Area under ROC"}


def stress(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Limits and all figures of every grader that was stressed."""
    return [_of(finding, found) for finding in findings if (found := (finding.evidence.result or {}).get("stress"))]


def _of(finding: Finding, found: Mapping[str, Any]) -> dict[str, Any]:
    names = list(found["untouched"])
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
        "limits": [_limit(*row, names[0]) for row in limits(found)],
    }  # fmt: skip


def _limit(title: str, held: str | None, broken: Mapping[str, Any] | None, name: str) -> list[Shown]:
    """A row: the change, the harshest level at which grades hold, and the figures of the first at which they do not."""
    if broken is None:
        return [title, Cell(text=str(held), small="the harshest level", tone="good"), None, None, None]
    reached = held or Cell(text="untouched only", tone="bad")
    return [title, reached, broken["words"], broken["differences"][name], percent_cell(broken["changed"])]
