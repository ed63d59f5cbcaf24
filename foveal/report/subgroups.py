"""The headline figures by camera, site, sex or any other column of the data; small groups are marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from foveal.evaluate.show import SMALL_CLASS
from foveal.page.parts import Cell, Part, Section, Strip, Table, section_by_run, value_cell
from foveal.report.findings import Finding
from foveal.report.words import METRIC_NAMES, headline_names

EXTRA = {"sensitivity": "Sensitivity", "specificity": "Specificity"}
MOST_SHOWN = 5  # most metrics in one table


def subgroups(findings: Sequence[Finding]) -> Section | None:
    """A table for every column that the images were grouped by; None if there is none."""
    return section_by_run("subgroups", "Subgroups", [(finding.name, _tables(finding)) for finding in findings])


def _tables(finding: Finding) -> list[Part]:
    groups = [group for group in finding.result.get("subgroups") or [] if group.get("metrics")]
    columns = dict.fromkeys(str(group["column"]) for group in groups)
    return [_table(finding, column, [group for group in groups if str(group["column"]) == column])
            for column in columns]  # fmt: skip


def lowest_group(finding: Finding) -> tuple[str, str, float] | None:
    """(column, value, figure) of the worst group by the first metric, among groups that are large enough.

    None if no column has two such groups: a single one contains nearly all images.
    """
    name = headline_names(finding.evidence)[0]
    large = [group for group in finding.result.get("subgroups") or []
             if not group.get("small") and _figure(group, name) is not None]  # fmt: skip
    columns = [group["column"] for group in large]
    groups = [group for group in large if columns.count(group["column"]) > 1]
    if not groups:
        return None
    worst = min(groups, key=lambda group: group["metrics"][name]["value"])
    return str(worst["column"]), str(worst["value"]), float(worst["metrics"][name]["value"])


def _figure(group: Mapping[str, Any], name: str) -> float | None:
    entry: Mapping[str, Any] = (group.get("metrics") or {}).get(name, {})
    return entry.get("value")


def _table(finding: Finding, column: str, groups: Sequence[Mapping[str, Any]]) -> Table:
    titles = {name: METRIC_NAMES[name] for name in headline_names(finding.evidence)} | EXTRA
    names = [name for name in titles if any(name in group["metrics"] for group in groups)][:MOST_SHOWN]
    rows = [_everything(finding, names), *(_row(finding, group, names) for group in groups)]
    notes = [
        "The bars go from 0 to 1 and show the 95 % interval of the first figure. The line marks the value for all "
        "images."
    ]
    if len(groups) == 1:
        notes = [f"All images have the same value, so there is nothing to compare. {notes[0]}"]
    if any(group.get("small") for group in groups):
        notes.append("Groups marked “few” are too small for any conclusion.")
    columns = ["", "n", *(titles[name] for name in names)]
    return Table(caption=f"By {column}", columns=columns, rows=rows, notes=notes)


def _everything(finding: Finding, names: Sequence[str]) -> list[Cell]:
    about = finding.result["about"]
    row = [Cell(text="all images"), Cell(text=f"{about['images']:,}", small=f"{about['groups']:,} groups")]
    return row + [_cell(finding.metrics.get(name), drawn=k == 0) for k, name in enumerate(names)]


def _row(finding: Finding, group: Mapping[str, Any], names: Sequence[str]) -> list[Cell]:
    small = bool(group.get("small"))
    note = ", ".join([f"{group['groups']:,} groups"] * bool(group.get("groups")) + ["few"] * small)
    row = [Cell(text=str(group["value"]) or "not known"),
           Cell(text=f"{group['n']:,}", small=note, tone="unsure" if small else "")]  # fmt: skip
    for k, name in enumerate(names):
        of_all, entry = finding.metrics.get(name, {}).get("value"), group["metrics"].get(name)
        cell = _cell(entry, drawn=k == 0, against=of_all, tone="muted" if small else "")
        if (
            entry is not None and entry["n"] < SMALL_CLASS
        ):  # for example a sensitivity, which uses only the images with disease
            cell = replace(cell, tone="muted", small=", ".join(filter(None, [cell.small, f"n = {entry['n']}"])))
        row.append(cell)
    return row


def _cell(entry: Mapping[str, Any] | None, *, drawn: bool, against: float | None = None, tone: str = "") -> Cell:
    if entry is None or entry.get("value") is None:
        return Cell(text="–", tone="muted")
    strip = None
    if drawn and entry.get("low") is not None:
        strip = Strip(low=entry["low"], high=entry["high"], value=entry["value"], against=against)
    return replace(value_cell(entry), tone=tone, strip=strip)
