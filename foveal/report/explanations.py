"""Where the grader looked: maps of attention, how well they fared in their tests, and what no map can show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from foveal.report.companions import map_note
from foveal.report.doubts import class_name
from foveal.report.evidence import Evidence
from foveal.report.pictures import SIDE, embedded
from foveal.report.tables import Cell, Table, value_cell
from foveal.report.words import counted, number

MOST_MAPS = 12
CANNOT = (
    "A map shows where the answer came from, not whether the reason was right: a grader may look at a lesion and call "
    "it by the wrong name.",
    "It is coarse. A microaneurysm is smaller than the smallest spot that such a map can light up.",
    "A map that looks sensible proves little: people see sense in maps of graders that have learned nothing. Only the "
    "scores here, where there are some, are evidence.",
)
READING = (
    "The colours run from violet, little, to yellow, most; where nothing is laid over, the answer does not hang on it. "
    "The white line holds the top tenth of the retina."
)
MEASURES = {"auc": "lesion AUC", "pointing": "pointing game", "enrichment": "enrichment", "border_energy": "border"}
MEANINGS = {
    "auc": "how often a pixel of a lesion is brighter on the map than one beside it.",
    "pointing": "how often the strongest place of the map lies in a lesion.",
    "enrichment": "how much more of the map lies in lesions than an even map would have there.",
    "border_energy": "the share of the map on the edge of the picture or outside the retina.",
}


def explanations_part(run: Evidence, shown_already: set[str]) -> dict[str, Any] | None:
    """Method, scores, and overlays of images that the page has not shown yet; None where nothing was explained."""
    explained = run.companions.explained
    if not explained:
        return None
    images = [image for image in run.companions.images if str(image.get("id")) not in shown_already]
    pictures = [_picture(run, image) for image in images if run.companions.picture(image)][:MOST_MAPS]
    score = explained.get("score") or {}
    return {
        "sentence": _sentence(explained),
        "reading": READING if run.companions.images else "",
        "elsewhere": _elsewhere(len(run.companions.images) - len(images)),
        "verdict": str(score.get("verdict") or ""),
        "scores": score_table(score),
        "alike": alike_table(score),
        "alarms": _alarms(run),
        "pictures": pictures,
        "cannot": [explained["cannot_show"], *CANNOT[2:]] if explained.get("cannot_show") else CANNOT,
    }


def _sentence(explained: Mapping[str, Any]) -> str:
    if not explained.get("images"):
        return "The maps of this grader were scored, but none was drawn of its own images."
    target = f"; explained is: {explained['target']}" if explained.get("target") else ""
    return f"Drawn with {explained.get('method') or 'an unnamed method'}{target}."


def _elsewhere(shown: int) -> str:
    """Where the maps are that do not stand here."""
    return f"{counted(shown, 'map')} stand{'s' if shown == 1 else ''} beside the worst errors above." if shown else ""


def _alarms(run: Evidence) -> str:
    images = run.companions.images
    alarms = sum(bool(image.get("alarm")) for image in images)
    if not alarms:
        return ""
    return (
        f"In {alarms} of {len(images)} images much of the attention lies on the edge of the picture or outside the "
        "retina, where there is no disease: read those grades with suspicion."
    )


def score_table(score: Mapping[str, Any]) -> Table | None:
    """How well the maps of each method find lesions, beside those of random weights and of plain contrast."""
    rows = []
    for method, entry in (score.get("methods") or {}).items():
        for weights in ("trained", "random"):
            if figures := entry.get(weights):
                random = ", random weights" if weights == "random" else ""
                rows.append([Cell(text=f"{method}{random}"), *(_figure(figures.get(name)) for name in MEASURES)])
    notes = [f"{title[0].upper()}{title[1:]}: {MEANINGS[name]}" for name, title in MEASURES.items()]
    about = f"Judged on {score.get('images', '?')} drawn photographs, the only ones on which the lesions are known."
    return Table(columns=["map", *MEASURES.values()], rows=rows, notes=[about, *notes]) if rows else None


def _figure(entry: Any) -> Cell:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("value"), int | float):
        return Cell(text="–", tone="muted")
    cell = value_cell({"low": None, "high": None, **entry})
    chance = entry.get("chance")
    return replace(cell, small=f"{cell.small}; chance {number(chance)}") if chance is not None else cell


def alike_table(score: Mapping[str, Any]) -> Table | None:
    """How alike maps stay when the weights are made random, step by step; a map that stays ignores the grader."""
    found = score.get("correlation") or {}
    steps = list(next(iter(found.values()), {}))
    rows = [[Cell(text=str(method)), *(Cell(text=number(row.get(step))) for step in steps)]
            for method, row in found.items()]  # fmt: skip
    notes = ["Mean rank correlation with the map before that part of the weights was made random. It should fall to "
             "near 0: a map that stays alike shows the picture, not the grader."]  # fmt: skip
    return Table(columns=["map", *steps], rows=rows, notes=notes) if rows else None


def _picture(run: Evidence, image: Mapping[str, Any]) -> dict[str, Any]:
    file = run.companions.picture(dict(image))
    assert file is not None
    return {
        "id": str(image.get("id")),
        "source": embedded(file, SIDE),
        "given": class_name(run, image.get("grade")),
        "true": class_name(run, image.get("label")),
        "note": map_note(image),
        "alarm": bool(image.get("alarm")),
    }
