"""Reliability: are 8 in 10 of the answers given with a probability of 80 % right?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foveal.page.charts import Line, Panel
from foveal.page.parts import Cell, Charts, Columns, Part, Section, Table, cells, muted, percent_cell, section_by_run
from foveal.page.words import number, percent
from foveal.report.findings import Finding

FEW = 10  # answers in a bin, below which its share says little
INTRO = (
    "When the grader gives a probability of 80 %, it should be right 8 times in 10. Below the dashed line it is too "
    "confident; above it, not confident enough."
)


def reliability(findings: Sequence[Finding]) -> Section | None:
    """Curve, table and sets of grades of every grader; None for results without them."""
    runs = [(finding.name, _parts(finding)) for finding in findings]
    return section_by_run("reliability", "Reliability", runs, intro=[INTRO])


def _parts(finding: Finding) -> list[Part]:
    bins = [one for one in (finding.result.get("reliability") or {}).get("bins", []) if one["n"]]
    if not bins:
        return []
    sets = finding.result.get("sets") or {}
    parts: list[Part] = [_sentence(finding, bins)]
    if sets:
        promised = finding.result["about"].get("coverage")
        parts += [_sets(sets, len(finding.evidence.classes)), _coverage(sets, promised)]
    return [*parts, Columns([[Charts([_panel(bins)])], [_table(bins)]], "beside")]


def _sentence(finding: Finding, bins: Sequence[Mapping[str, Any]]) -> str:
    total = sum(one["n"] for one in bins)
    gap = sum(one["n"] * (one["confidence"] - one["accuracy"]) for one in bins) / total
    lean = "too confident" if gap > 0 else "not confident enough"
    text = f"On average it is {lean}, by {number(100 * abs(gap), 1)} percentage points"
    if abs(gap) < 0.02:
        text = "On average its probabilities are right to within 2 percentage points"
    figures = [f"{name} {number(entry['value'], 3)}" for key, name in
               (("expected_calibration_error", "calibration error (ECE)"), ("brier", "Brier score"))
               if (entry := finding.metrics.get(key)) and entry["value"] is not None]  # fmt: skip
    luck = finding.result["reliability"].get("luck")
    if luck is not None:
        figures.append(f"on these images, even a perfectly calibrated grader would have an ECE of {number(luck, 3)}")
    return f"{text}{': ' if figures else ''}{'; '.join(figures)}."


def _sets(sets: Mapping[str, Any], classes: int) -> str:
    """How often the sets of grades contain the true grade, and how large they are."""
    covered, size = sets["coverage"], sets["size"]
    by_class = {name.removeprefix("coverage of "): entry for name, entry in sets.items() if " of " in name}
    worst = min(by_class, key=lambda name: by_class[name]["value"])
    return (
        f"Sets of grades: the set contains the true grade for {percent(covered['value'])} of {covered['n']:,} images, "
        f"least often for {worst} ({percent(by_class[worst]['value'])} of {by_class[worst]['n']:,}). A set has "
        f"{number(size['value'], 1)} grades on average; {percent(sets['single']['value'])} of the images get a single "
        "grade." + " Sets as large as this tell you nothing." * (size["value"] > classes - 0.5)
    )


def _coverage(sets: Mapping[str, Any], promised: float | None) -> Table:
    """For each grade, how often its sets contain it, and how often they should."""
    rows = []
    for name, entry in sets.items():
        if name == "coverage" or name.startswith("coverage of "):
            answer, tone = kept(entry, promised)
            rows.append([Cell(text=name.removeprefix("coverage of ").replace("coverage", "all grades")),
                         muted(percent(promised)), percent_cell(entry), Cell(text=answer, tone=tone),
                         muted(f"{entry['n']:,}")])  # fmt: skip
    return Table(
        caption="Sets of grades: target and measured coverage", rows=rows,
        columns=["true grade", "target", "measured", "result", "n"],
        notes=["The target is met if the whole 95 % interval is at or above it, and missed if the whole interval is "
               "below "
               "it. Otherwise there are too few images to tell. The target is for new images from the same source as "
               "the calibration images."],
    )  # fmt: skip


def kept(entry: Mapping[str, Any], promised: float | None) -> tuple[str, str]:
    """Whether the interval shows that the promised coverage was met: (word, tone)."""
    if promised is None or entry["high"] is None:
        return "cannot tell", "unsure"
    if entry["high"] < promised:
        return "missed", "bad"
    return ("met", "good") if entry["low"] >= promised else ("cannot tell", "unsure")


def _panel(bins: Sequence[Mapping[str, Any]]) -> Panel:
    lines = [
        Line(label="grader", x=[one["confidence"] for one in bins], y=[one["accuracy"] for one in bins], dotted=True),
        Line(label="perfectly calibrated", x=[0, 1], y=[0, 1], colour="muted", dashed=True),
    ]
    return Panel(title="Reliability", x_label="probability of the most likely class", y_label="share that was right",
                 lines=lines, square=True)  # fmt: skip


def _table(bins: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        cells(f"{percent(one['low'])} to {percent(one['high'])}", percent(one["confidence"]), percent(one["accuracy"]),
              f"{one['n']:,}{' (few)' if one['n'] < FEW else ''}")
        for one in bins
    ]  # fmt: skip
    columns = ["probability", "average", "was right", "n"]
    return Table(caption="The curve in numbers", columns=columns, rows=rows)
