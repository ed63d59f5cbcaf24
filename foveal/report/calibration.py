"""Reliability: whether a probability of 80 % means that 8 of 10 such answers are right."""

from __future__ import annotations

from typing import Any

from foveal.page.charts import Line, Panel
from foveal.page.parts import Cell, Table, cells
from foveal.page.words import number, percent
from foveal.report.findings import Finding
from foveal.report.operating import share_cell

FEW = 10  # answers in a bin, below which its share says little


def calibration_part(finding: Finding) -> dict[str, Any] | None:
    """Sentence, curve and table; None for results that were made without them."""
    bins = [one for one in (finding.result.get("reliability") or {}).get("bins", []) if one["n"]]
    if not bins:
        return None
    return {
        "sentence": _sentence(finding, bins),
        "sets": _sets(finding),
        "coverage": _coverage(finding),
        "charts": [_panel(bins)],
        "table": _table(bins),
    }


def _sentence(finding: Finding, bins: list[dict[str, Any]]) -> str:
    total = sum(one["n"] for one in bins)
    gap = sum(one["n"] * (one["confidence"] - one["accuracy"]) for one in bins) / total
    lean = "too sure of itself" if gap > 0 else "not sure enough of itself"
    text = f"On average it is {lean} by {number(100 * abs(gap), 1)} points of a hundred"
    if abs(gap) < 0.02:
        text = "On average its probabilities are right within 2 points of a hundred"
    figures = [f"{name} {number(entry['value'], 3)}" for key, name in
               (("expected_calibration_error", "calibration error (ECE)"), ("brier", "Brier score"))
               if (entry := finding.metrics.get(key)) and entry["value"] is not None]  # fmt: skip
    luck = (finding.result.get("reliability") or {}).get("luck")
    if luck is not None:
        figures.append(f"a perfectly calibrated grader would have an ECE of {number(luck, 3)} here by luck alone")
    return f"{text}{': ' if figures else ''}{'; '.join(figures)}."


def _sets(finding: Finding) -> str:
    """How often sets of grades hold the true one, and how large they are; empty where there are none."""
    found = finding.result.get("sets") or {}
    if not found:
        return ""
    covered, size = found["coverage"], found["size"]
    classes = {name.removeprefix("coverage of "): entry for name, entry in found.items() if " of " in name}
    worst = min(classes, key=lambda name: classes[name]["value"])
    return (
        f"Sets of grades: the set of an image holds its true grade in {percent(covered['value'])} of {covered['n']:,} "
        f"images, least often for {worst} ({percent(classes[worst]['value'])} of {classes[worst]['n']:,}). A set has "
        f"{number(size['value'], 1)} grades on average; in {percent(found['single']['value'])} of the images it is one."
        + " Sets as large as that say nothing."
        * (size["value"] > len(finding.evidence.classes) - 0.5)
    )


def _coverage(finding: Finding) -> Table | None:
    """How often the sets hold the true grade, for each grade beside what was promised; None without sets."""
    found, promised = finding.result.get("sets") or {}, finding.result["about"].get("coverage")
    if not found:
        return None
    rows = []
    for name, entry in found.items():
        if name == "coverage" or name.startswith("coverage of "):
            answer, tone = _kept(entry, promised)
            rows.append([Cell(text=name.removeprefix("coverage of ").replace("coverage", "all grades")),
                         Cell(text=percent(promised), tone="muted"), share_cell(entry), Cell(text=answer, tone=tone),
                         Cell(text=f"{entry['n']:,}", tone="muted")])  # fmt: skip
    notes = ["Kept is said where the interval lies at or above the promise, broken where it lies below; where it holds "
             "the promise, these images cannot tell. The promise is for new images from where the calibration images "
             "came from."]  # fmt: skip
    return Table(columns=["true grade", "promised", "held", "promise", "n"], rows=rows, notes=notes)


def _kept(entry: dict[str, Any], promised: float | None) -> tuple[str, str]:
    """Whether a promised coverage was kept, in a word with its tone."""
    if promised is None or entry["high"] is None:
        return "cannot tell", "unsure"
    if entry["high"] < promised:
        return "broken", "bad"
    return ("kept", "good") if entry["low"] >= promised else ("cannot tell", "unsure")


def _panel(bins: list[dict[str, Any]]) -> Panel:
    confidence = [one["confidence"] for one in bins]
    lines = [
        Line(label="grader", x=confidence, y=[one["accuracy"] for one in bins], dotted=True),
        Line(label="what it says is so", x=[0, 1], y=[0, 1], colour="muted", dashed=True),
    ]
    return Panel(
        title="Reliability", x_label="probability of the likeliest class", y_label="share that was right",
        lines=lines, square=True,
    )  # fmt: skip


def _table(bins: list[dict[str, Any]]) -> Table:
    rows = [
        cells(f"{percent(one['low'])} to {percent(one['high'])}", percent(one["confidence"]), percent(one["accuracy"]),
              f"{one['n']:,}{' (few)' if one['n'] < FEW else ''}")
        for one in bins
    ]  # fmt: skip
    return Table(columns=["probability", "said on average", "was right", "n"], rows=rows)
