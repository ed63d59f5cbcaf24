"""The page of an explanation: heat maps over photographs, and tables of how reliable they are, also for the report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foveal.page import parts
from foveal.page.pictures import embedded_file
from foveal.page.render import page, section
from foveal.page.words import capital, number

SIDE = 640  # pixels of a picture on the page; it links to the full one
MOST = 24  # most pictures, so that the page stays small enough to send
READING = (
    "Colours go from violet (little effect) to yellow (most). Areas without colour do not affect the answer. The white "
    "line marks the strongest tenth of the retina."
)
MEASURES = {
    "auc": ("lesion AUC", "how often a pixel inside a lesion is stronger on the map than one outside"),
    "pointing": ("pointing game", "how often the strongest point of the map is in a lesion"),
    "enrichment": ("enrichment", "how many times more of the map is in lesions than for an even map"),
    "border_energy": ("border", "the share of the map on the edge of the picture or outside the retina"),
}
ALIKE = (
    "Mean rank correlation with the original map after randomising a part of the weights; a dash if a map is constant. "
    "It should drop to near 0: a map that stays similar shows the picture, not the grader."
)


def render(result: Mapping[str, Any], folder: Path, classes: Sequence[str]) -> str:
    """The page as HTML, from explain.json in `folder`."""
    score, shown = result.get("score") or {}, []
    if result["images"]:
        pictures = [_picture(image, folder, classes) for image in result["images"][:MOST]]
        alarms = sum(bool(image["alarm"]) for image in result["images"])
        shown.append(section("maps", result=result, shown=pictures, alarms=alarms, reading=READING))
    if tables := [table for table in (score_table(score), alike_table(score)) if table]:
        own = [score["verdict"], *tables]
        shown.append(parts.Section(name="scores", title="How reliable the maps are", parts=own))
    shown.append(parts.Section(name="limits", title="What a map cannot show", parts=[result["cannot_show"]]))
    title = Path(result["run"]).resolve().name
    return page(shown, kind="Foveal explanation", title=title, subtitle="where the grader looked")


def _picture(image: Mapping[str, Any], folder: Path, classes: Sequence[str]) -> parts.Picture:
    label, file = image["label"], image["overlay"]
    text = f"given {classes[image['grade']]}" + ("" if label is None else f", labelled {classes[label]}")
    source, lines = embedded_file(folder / file, SIDE), [image["note"]]
    return parts.Picture(source=source, id=image["id"], link=file, text=text, lines=lines, alarm=image["alarm"])


def score_table(score: Mapping[str, Any]) -> parts.Table | None:
    """How well the maps of each method find lesions, compared with random weights and plain contrast."""
    if not (methods := score.get("methods")):
        return None
    rows: list[list[parts.Shown]] = []
    for method, entry in methods.items():
        for weights, name in (("trained", method), ("random", f"{method}, random weights")):
            if figures := entry.get(weights):
                rows.append([name, *(_figure(figures.get(measure)) for measure in MEASURES)])
    notes = [f"{score['images']} drawn photographs, because their lesions are known. 95 % intervals.",
             *(f"{capital(name)}: {meaning}." for name, meaning in MEASURES.values())]  # fmt: skip
    title, columns = "Maps compared with known lesions", ["map", *(name for name, _ in MEASURES.values())]
    return parts.Table(caption=title, columns=columns, rows=rows, notes=notes)


def _figure(entry: Mapping[str, Any] | None) -> parts.Cell | None:
    if not entry or entry["value"] is None:
        return None
    cell = parts.value_cell(entry)
    return cell if entry["chance"] is None else replace(cell, small=f"{cell.small}; chance {number(entry['chance'])}")


def alike_table(score: Mapping[str, Any]) -> parts.Table | None:
    """How similar maps stay when the weights are randomised step by step."""
    found = score.get("correlation") or {}
    steps = list(next(iter(found.values()), {}))
    rows = [[str(method), *(number(row.get(step)) for step in steps)] for method, row in found.items()]
    title = "Do the maps depend on the grader?"
    return parts.Table(caption=title, columns=["map", *steps], rows=rows, notes=[ALIKE]) if rows else None
