"""How to read a map, and tables of the map scores in explain.json; also for the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from foveal.page.parts import Cell, Table, cells, muted, value_cell
from foveal.page.words import capital, number

READING = (
    "Colours go from violet (little effect) to yellow (most). Areas without colour do not affect the answer. The white "
    "line marks the strongest tenth of the retina."
)
MEASURES = {"auc": "lesion AUC", "pointing": "pointing game", "enrichment": "enrichment", "border_energy": "border"}
MEANINGS = {
    "auc": "how often a pixel inside a lesion is stronger on the map than one outside.",
    "pointing": "how often the strongest point of the map is in a lesion.",
    "enrichment": "how many times more of the map is in lesions than for an even map.",
    "border_energy": "the share of the map on the edge of the picture or outside the retina.",
}


def score_table(score: Mapping[str, Any]) -> Table | None:
    """How well the maps of each method find lesions, compared with random weights and plain contrast."""
    rows = []
    for method, entry in (score.get("methods") or {}).items():
        for weights in ("trained", "random"):
            if figures := entry.get(weights):
                random = ", random weights" if weights == "random" else ""
                rows.append([Cell(text=f"{method}{random}"), *(_figure(figures.get(name)) for name in MEASURES)])
    notes = [f"{capital(title)}: {MEANINGS[name]}" for name, title in MEASURES.items()]
    about = f"{score.get('images', '?')} drawn photographs, because their lesions are known. 95 % intervals."
    title, columns = "Maps compared with known lesions", ["map", *MEASURES.values()]
    return Table(caption=title, columns=columns, rows=rows, notes=[about, *notes]) if rows else None


def _figure(entry: Any) -> Cell:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("value"), int | float):
        return muted("–")
    cell = value_cell({"low": None, "high": None, **entry})
    chance = entry.get("chance")
    return replace(cell, small=f"{cell.small}; chance {number(chance)}") if chance is not None else cell


def alike_table(score: Mapping[str, Any]) -> Table | None:
    """How similar maps stay when the weights are randomised step by step."""
    found = score.get("correlation") or {}
    steps = list(next(iter(found.values()), {}))
    rows = [cells(str(method), *(number(row.get(step)) for step in steps)) for method, row in found.items()]
    notes = [
        "Mean rank correlation with the original map after randomising a part of the weights; a dash if a map is "
        "constant. It should drop to near 0: a map that stays similar shows the picture, not the grader."
    ]
    title = "Do the maps depend on the grader?"
    return Table(caption=title, columns=["map", *steps], rows=rows, notes=notes) if rows else None
