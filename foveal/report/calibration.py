"""Reliability: are 8 in 10 of the answers given with a probability of 80 % right?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foveal.page.charts import Line, Panel
from foveal.page.parts import Cell, Shown, muted, percent_cell
from foveal.page.words import percent
from foveal.report.findings import Finding

FEW = 10  # answers in a bin, below which its share says little
EVERY, ONE = "coverage", "coverage of "  # entries of the sets of grades: over all grades, and of one true grade


def reliability(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Curve, table and sets of grades of every grader that has them."""
    return [_calibration(finding) for finding in findings if (finding.result.get("reliability") or {}).get("bins")]


def _calibration(finding: Finding) -> dict[str, Any]:
    found, metrics = finding.result["reliability"], finding.metrics
    bins = [one for one in found["bins"] if one["n"]]
    rows = [
        [f"{percent(one['low'])} to {percent(one['high'])}", percent(one["confidence"]), percent(one["accuracy"]),
         f"{one['n']:,}{' (few)' if one['n'] < FEW else ''}"]
        for one in bins
    ]  # fmt: skip
    sets = finding.result.get("sets")
    return {
        "name": finding.name, "luck": found.get("luck"), "rows": rows, "panel": _panel(bins),
        "gap": sum(one["n"] * (one["confidence"] - one["accuracy"]) for one in bins) / sum(one["n"] for one in bins),
        "error": metrics.get("expected_calibration_error", {}).get("value"),
        "brier": metrics.get("brier", {}).get("value"), "classes": len(finding.evidence.classes),
        "sets": _sets(sets, finding.result["about"].get("coverage")) if sets else None,
    }  # fmt: skip


def _panel(bins: Sequence[Mapping[str, Any]]) -> Panel:
    lines = [
        Line(label="grader", x=[one["confidence"] for one in bins], y=[one["accuracy"] for one in bins], dotted=True),
        Line(label="perfectly calibrated", x=[0, 1], y=[0, 1], look="dashed muted"),
    ]
    return Panel(title="Reliability", x_label="probability of the most likely class", y_label="share that was right",
                 lines=lines, square=True)  # fmt: skip


def _sets(sets: Mapping[str, Any], promised: float | None) -> dict[str, Any]:
    """How often the sets of grades contain the true grade, and how often they should."""
    worst = min((name for name in sets if name.startswith(ONE)), key=lambda name: sets[name]["value"])
    rows: list[list[Shown]] = []
    for name, entry in sets.items():
        if name.startswith(EVERY):
            answer, tone = kept(entry, promised)
            grade = "all grades" if name == EVERY else name.removeprefix(ONE)
            rows.append([grade, muted(percent(promised)), percent_cell(entry), Cell(text=answer, tone=tone),
                         muted(f"{entry['n']:,}")])  # fmt: skip
    return {"rows": rows, "covered": sets[EVERY], "size": sets["size"]["value"], "single": sets["single"]["value"],
            "worst": {"name": worst.removeprefix(ONE), **sets[worst]}}  # fmt: skip


def kept(entry: Mapping[str, Any], promised: float | None) -> tuple[str, str]:
    """Whether the interval shows that the promised coverage was met: (word, tone)."""
    if promised is None or entry["high"] is None:
        return "cannot tell", "unsure"
    if entry["high"] < promised:
        return "missed", "bad"
    return ("met", "good") if entry["low"] >= promised else ("cannot tell", "unsure")
