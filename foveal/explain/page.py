"""The page of an explanation: heat maps over photographs, and what they cannot show."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveal.page.parts import Picture, Section
from foveal.page.pictures import embedded_file
from foveal.page.render import page, section

SIDE = 640  # pixels of a picture on the page; it links to the full one
MOST = 24  # most pictures, so that the page stays small enough to send


def render(result: Mapping[str, Any], folder: Path, classes: Sequence[str]) -> str:
    """The page as HTML, from explain.json in `folder`."""
    images = result["images"]
    pictures = [_picture(image, folder, classes) for image in images[:MOST]]
    alarms = sum(bool(image["alarm"]) for image in images)
    failed = result["checks"][result["method"].split()[0]]["passed"] is False
    sections = [
        section("maps", result=result, shown=pictures, alarms=alarms, failed=failed),
        Section(name="limits", title="What a map cannot show", parts=[result["cannot_show"]]),
    ]
    title = Path(result["run"]).resolve().name
    return page(sections, kind="Foveal explanation", title=title, subtitle="where the grader looked")


def _picture(image: Mapping[str, Any], folder: Path, classes: Sequence[str]) -> Picture:
    label, file = image["label"], image["overlay"]
    text = f"given {classes[image['grade']]}" + ("" if label is None else f", labelled {classes[label]}")
    source, lines = embedded_file(folder / file, SIDE), [image["note"]]
    return Picture(source=source, id=image["id"], link=file, text=text, lines=lines, alarm=image["alarm"])
