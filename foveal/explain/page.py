"""The page of an explanation: maps over photographs, what was asked of the grader below each, and what maps are worth.

One HTML file in the style of the report; the pictures in it are small and lead to the full ones beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveal.explain.tables import READING, alike_table, score_table
from foveal.page.pictures import embedded_file
from foveal.page.render import render as render_page

SIDE = 640  # pixels of a picture on the page
MOST = 24  # pictures: the page stays small enough to send


def render(result: Mapping[str, Any], folder: Path, classes: Sequence[str]) -> str:
    """The page as HTML, of what explain.json in `folder` holds; every word that comes from a file is escaped."""
    images, score = result["images"], result.get("score") or {}
    return render_page("explain.html", **{
        "run": Path(result["run"]).resolve().name, "method": result["method"], "target": result["target"],
        "reading": READING, "images": len(images), "scores": score_table(score), "alike": alike_table(score),
        "verdict": str(score.get("verdict") or ""), "cannot_show": result["cannot_show"],
        "alarms": sum(bool(image["alarm"]) for image in images),
        "pictures": [_picture(image, folder, classes) for image in images[:MOST]],
    })  # fmt: skip


def _picture(image: Mapping[str, Any], folder: Path, classes: Sequence[str]) -> dict[str, str]:
    label = image["label"]
    return {
        "id": image["id"], "full": image["overlay"], "source": embedded_file(folder / image["overlay"], SIDE),
        "given": classes[image["grade"]], "label": "" if label is None else classes[label],
        "note": image["note"], "alarm": image["alarm"],
    }  # fmt: skip
