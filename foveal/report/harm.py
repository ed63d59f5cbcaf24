"""Errors by what they would do: a missed sight-threatening eye weighs more than a needless visit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foveal.page.parts import Cell, Strip, Table
from foveal.page.words import number, percent, value_with_interval
from foveal.report.findings import Finding

MOST_ERRORS = 10


def harm_part(finding: Finding) -> dict[str, Any] | None:
    """The errors, those that weigh most in all first; None for results that were made without them."""
    harm = finding.result.get("harm") or {}
    errors = [error for error in harm.get("errors", []) if error["n"]]
    if not errors:
        return None
    ranked = sorted(errors, key=lambda error: (-weight_of(error), -error["n"]))
    return {"worst": harm.get("worst", ""), "index": _index(harm.get("index")), "table": _table(finding, ranked)}


def weight_of(error: Mapping[str, Any]) -> float:
    """What all errors of this kind weigh together."""
    return float(error["n"]) * float(error.get("weight") or 0)


def class_name(finding: Finding, value: Any) -> str:
    """A class by its name, whether a file names or numbers it."""
    classes = finding.evidence.classes
    return classes[value] if isinstance(value, int) and 0 <= value < len(classes) else str(value)


def _index(entry: Any) -> str:
    if isinstance(entry, Mapping) and entry.get("value") is not None:
        text = f"Harm index {value_with_interval({'low': None, **entry}, 3)}"
        if entry.get("constant") is not None:
            text += f"; the constant answer has {number(entry['constant'], 3)}"
        return f"{text}. It is the mean weight over all images; lower is better."
    return ""


def _table(finding: Finding, errors: list[dict[str, Any]]) -> Table:
    total = sum(map(weight_of, errors)) or 1.0
    rows = []
    for error in errors[:MOST_ERRORS]:
        share = weight_of(error) / total
        strip = Strip(low=0.0, high=share)
        rows.append([
            Cell(text=f"{class_name(finding, error['true'])} → {class_name(finding, error['given'])}"),
            Cell(text=f"{error['n']:,}"), Cell(text=percent(error.get("share"), 1)),
            Cell(text=number(error.get("weight"), 1)), Cell(text=percent(share), strip=strip),
        ])  # fmt: skip
    notes = ["The share is of the images of the true class. The weight is what one such error counts; the last column "
             "is the part of all harm that errors of this kind make up."]  # fmt: skip
    if len(errors) > MOST_ERRORS:
        notes.append(f"Kinds that weigh less and are left out: {len(errors) - MOST_ERRORS}; metrics.json has them.")
    return Table(columns=["true → given", "n", "share", "weight", "of all harm"], rows=rows, notes=notes)
