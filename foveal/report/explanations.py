"""Where the grader looked: maps of attention, how well they fared in their tests, and what no map can show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foveal.explain.tables import READING, alike_table, score_table
from foveal.page.pictures import embedded_file
from foveal.page.words import counted
from foveal.report.companions import map_note
from foveal.report.doubts import class_name
from foveal.report.evidence import Evidence
from foveal.report.pictures import SIDE

MOST_MAPS = 12
CANNOT = (
    "A map shows where the answer came from, not whether the reason was right: a grader may look at a lesion and call "
    "it by the wrong name.",
    "It is coarse. A microaneurysm is smaller than the smallest spot that such a map can light up.",
    "A map that looks sensible proves little: people see sense in maps of graders that have learned nothing. Only the "
    "scores here, where there are some, are evidence.",
)


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


def _picture(run: Evidence, image: Mapping[str, Any]) -> dict[str, Any]:
    file = run.companions.picture(dict(image))
    assert file is not None
    return {
        "id": str(image.get("id")),
        "source": embedded_file(file, SIDE),
        "given": class_name(run, image.get("grade")),
        "true": class_name(run, image.get("label")),
        "note": map_note(image),
        "alarm": bool(image.get("alarm")),
    }
