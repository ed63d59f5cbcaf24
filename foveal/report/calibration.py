"""Reliability: are 8 in 10 of the answers given with a probability of 80 % right?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foveal.page.charts import Line, Panel
from foveal.page.parts import Cell, muted, percent_cell
from foveal.page.words import percent
from foveal.report.findings import Finding

FEW = 10  # answers in a bin, below which its share says little


def reliability(findings: Sequence[Finding]) -> dict[str, Any] | None:
    """Curve, table and sets of grades of every grader; None for results without them."""
    runs = [_calibration(finding) for finding in findings if (finding.result.get("reliability") or {}).get("bins")]
    return {"runs": runs} if runs else None


def _calibration(finding: Finding) -> dict[str, Any]:
    found, sets = finding.result["reliability"], finding.result.get("sets") or {}
    bins = [one for one in found["bins"] if one["n"]]
    gap = sum(one["n"] * (one["confidence"] - one["accuracy"]) for one in bins) / sum(one["n"] for one in bins)
    rows = [
        [f"{percent(one['low'])} to {percent(one['high'])}", percent(one["confidence"]), percent(one["accuracy"]),
         f"{one['n']:,}{' (few)' if one['n'] < FEW else ''}"]
        for one in bins
    ]  # fmt: skip
    return {
        "name": finding.name, "gap": gap, "luck": found.get("luck"), "rows": rows, "panel": _panel(bins),
        "error": finding.metrics.get("expected_calibration_error", {}).get("value"),
        "brier": finding.metrics.get("brier", {}).get("value"), "classes": len(finding.evidence.classes),
        "sets": _sets(sets, finding.result["about"].get("coverage")) if sets else None,
    }  # fmt: skip


def _panel(bins: Sequence[Mapping[str, Any]]) -> Panel:
    lines = [
        Line(label="grader", x=[one["confidence"] for one in bins], y=[one["accuracy"] for one in bins], dotted=True),
        Line(label="perfectly calibrated", x=[0, 1], y=[0, 1], colour="muted", dashed=True),
    ]
    return Panel(title="Reliability", x_label="probability of the most likely class", y_label="share that was right",
                 lines=lines, square=True)  # fmt: skip


def _sets(sets: Mapping[str, Any], promised: float | None) -> dict[str, Any]:
    """How often the sets of grades contain the true grade, and how often they should."""
    coverage = {name.removeprefix("coverage of "): entry for name, entry in sets.items() if name.startswith("coverage")}
    by_class = {name: entry for name, entry in coverage.items() if name != "coverage"}
    worst, rows = min(by_class, key=lambda name: by_class[name]["value"]), []
    for name, entry in coverage.items():
        answer, tone = kept(entry, promised)
        rows.append(["all grades" if name == "coverage" else name, muted(percent(promised)), percent_cell(entry),
                     Cell(text=answer, tone=tone), muted(f"{entry['n']:,}")])  # fmt: skip
    return {"rows": rows, "covered": sets["coverage"], "size": sets["size"]["value"], "single": sets["single"]["value"],
            "worst": {"name": worst, **by_class[worst]}}  # fmt: skip


def kept(entry: Mapping[str, Any], promised: float | None) -> tuple[str, str]:
    """Whether the interval shows that the promised coverage was met: (word, tone)."""
    if promised is None or entry["high"] is None:
        return "cannot tell", "unsure"
    if entry["high"] < promised:
        return "missed", "bad"
    return ("met", "good") if entry["low"] >= promised else ("cannot tell", "unsure")
