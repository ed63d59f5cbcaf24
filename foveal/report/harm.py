"""Errors by harm: missing sight-threatening disease is worse than an unnecessary visit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foveal.page.parts import Cell, Part, Section, Strip, Table, section_by_run
from foveal.page.words import number, percent, value_with_interval
from foveal.report.findings import Finding

MOST_ERRORS = 10
INTRO = (
    "Some errors do more harm than others: missing sight-threatening disease is worst, an unnecessary visit least bad."
)


def harm(findings: Sequence[Finding]) -> Section | None:
    """The errors of every grader, most harmful first; None for results without them."""
    runs = [(finding.name, _parts(finding)) for finding in findings]
    return section_by_run("harm", "Errors by harm", runs, intro=[INTRO], short="Harm")


def _parts(finding: Finding) -> list[Part]:
    found = finding.result.get("harm") or {}
    errors = [error for error in found.get("errors", []) if error["n"]]
    if not errors:
        return []
    sentences = [f"Worst: {found['worst']}." if found.get("worst") else "", _index(found.get("index") or {})]
    return [*filter(None, sentences), _table(sorted(errors, key=lambda error: (-_weight(error), -error["n"])))]


def _weight(error: Mapping[str, Any]) -> float:
    """Total weight of all errors of this kind."""
    return float(error["n"]) * float(error.get("weight") or 0)


def _index(entry: Mapping[str, Any]) -> str:
    if entry.get("value") is None:
        return ""
    constant = f"; a constant answer has {number(entry['constant'], 3)}" if entry.get("constant") is not None else ""
    index = value_with_interval({"low": None, **entry}, 3)
    return f"Harm index {index}{constant}. It is the mean weight over all images; lower is better."


def _table(errors: Sequence[Mapping[str, Any]]) -> Table:
    total = sum(map(_weight, errors)) or 1.0
    rows = [
        [Cell(text=f"{error['true']} → {error['given']}"), Cell(text=f"{error['n']:,}"),
         Cell(text=percent(error.get("share"), 1)), Cell(text=number(error.get("weight"), 1)),
         Cell(text=percent(_weight(error) / total), strip=Strip(low=0.0, high=_weight(error) / total))]
        for error in errors[:MOST_ERRORS]
    ]  # fmt: skip
    notes = ["The share is of the images of the true class. The weight is the harm of one error. The last column is "
             "the "
             "share of all harm that comes from this kind of error."]  # fmt: skip
    if len(errors) > MOST_ERRORS:
        notes.append(f"{len(errors) - MOST_ERRORS} less harmful kinds are left out; metrics.json lists all.")
    columns = ["true → given", "n", "share", "weight", "of all harm"]
    return Table(caption="Errors, most harmful first", columns=columns, rows=rows, notes=notes)
