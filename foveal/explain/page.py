"""The page of an explanation: heat maps over photographs, and how reliable the maps are.

The pictures on the page are small, and link to the full pictures next to the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveal.explain.tables import READING, alike_table, score_table
from foveal.page.parts import COLOUR_SCALE, Gallery, Note, Part, Picture, Section, Verdict
from foveal.page.pictures import embedded_file
from foveal.page.render import page

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
