"""The page of an explanation: heat maps over photographs, and tables of how reliable they are, also for the report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foveal.page import parts
from foveal.page.pictures import embedded_file
from foveal.page.render import page, section, told
from foveal.page.words import number

SIDE = 640  # pixels of a picture on the page; it links to the full one
MOST = 24  # most pictures, so that the page stays small enough to send
MEASURES = {
    "auc": ("lesion AUC", "how often a pixel inside a lesion is stronger on the map than one outside"),
    "pointing": ("pointing game", "how often the strongest point of the map is in a lesion"),
    "enrichment": ("enrichment", "how many times more of the map is in lesions than for an even map"),
    "border_energy": ("border", "the share of the map on the edge of the picture or outside the retina"),
}


def render(result: Mapping[str, Any], folder: Path, classes: Sequence[str]) -> str:
    """The page as HTML, from explain.json in `folder`."""
    score, shown = result.get("score") or {}, []
    if result["images"]:
        pictures = [_picture(image, folder, classes) for image in result["images"][:MOST]]
        alarms = sum(bool(image["alarm"]) for image in result["images"])
        shown.append(section("maps", result=result, shown=pictures, alarms=alarms))
    if tables := score_tables(score):
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


def score_tables(score: Mapping[str, Any], caption: str = "Maps compared with known lesions") -> list[parts.Table]:
    """How well maps find lesions, also with random weights and plain contrast; how similar they stay if weights change.

    caption: of the first table. Without scores, there are no tables.
    """

    def figures(found: Mapping[str, Any]) -> list[parts.Cell | None]:
        return [_figure(found.get(measure)) for measure in MEASURES]

    def correlations(found: Mapping[str, Any], steps: Sequence[str]) -> list[str]:
        return [number(found.get(step)) for step in steps]

    return told(
        "scores.txt", score=score, measures=MEASURES, caption=caption, figures=figures, correlations=correlations
    )


def _figure(entry: Mapping[str, Any] | None) -> parts.Cell | None:
    if not entry or entry["value"] is None:
        return None
    cell = parts.value_cell(entry)
    return cell if entry["chance"] is None else replace(cell, small=f"{cell.small}; chance {number(entry['chance'])}")
