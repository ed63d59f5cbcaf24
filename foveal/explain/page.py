"""The page of an explanation: heat maps over photographs, and tables of how reliable they are, also for the report.

The pictures on the page are small, and link to the full pictures next to the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foveal.page.parts import (
    COLOUR_SCALE,
    Cell,
    Gallery,
    Note,
    Part,
    Picture,
    Section,
    Table,
    Verdict,
    cells,
    muted,
    value_cell,
)
from foveal.page.pictures import embedded_file
from foveal.page.render import page
from foveal.page.words import capital, number

SIDE = 640  # pixels of a picture on the page


MOST = 24  # most pictures, so that the page stays small enough to send


def render(result: Mapping[str, Any], folder: Path, classes: Sequence[str]) -> str:
    """The page as HTML, from explain.json in `folder`; all text from files is escaped."""
    score = result.get("score") or {}
    tables = [table for table in (score_table(score), alike_table(score)) if table]
    sections = [
        Section(name="maps", title="What the grade depends on", parts=_maps(result, folder, classes)),
        Section(name="scores", title="How reliable the maps are", parts=[str(score.get("verdict") or ""), *tables]),
        Section(name="limits", title="What a map cannot show", parts=[result["cannot_show"]]),
    ]
    empty = {"" if result["images"] else "maps", "" if tables else "scores"}
    return page(
        [section for section in sections if section.name not in empty], kind="Foveal explanation",
        title=Path(result["run"]).resolve().name, subtitle="where the grader looked",
    )  # fmt: skip


def _maps(result: Mapping[str, Any], folder: Path, classes: Sequence[str]) -> list[Part]:
    images = result["images"]
    parts: list[Part] = [f"Method: {result['method']}; target: {result['target']}. {READING}", COLOUR_SCALE]
    alarms = sum(bool(image["alarm"]) for image in images)
    if alarms:
        text = f"A large part of {alarms} of {len(images)} maps is on the border or the rim of the retina."
        grounds = "There is no disease there: these grades may depend on the camera or the crop."
        parts.append(Verdict(tone="unsure", text=text, grounds=grounds))
    parts.append(Gallery([_picture(image, folder, classes) for image in images[:MOST]], "wide"))
    if len(images) > MOST:
        parts.append(Note(f"The first {MOST} of {len(images)} are shown; all are in the folder maps."))
    return parts


def _picture(image: Mapping[str, Any], folder: Path, classes: Sequence[str]) -> Picture:
    label, file = image["label"], image["overlay"]
    text = f"given {classes[image['grade']]}" + ("" if label is None else f", labelled {classes[label]}")
    return Picture(source=embedded_file(folder / file, SIDE), id=image["id"], link=file, text=text,
                   lines=[image["note"]], alarm=image["alarm"])  # fmt: skip


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
