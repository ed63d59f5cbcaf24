"""Where the grader looked: heat maps, their test scores, and what they cannot show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from foveal.explain.tables import READING, alike_table, score_table
from foveal.page.parts import COLOUR_SCALE, Bullets, Gallery, Heading, Part, Picture, Section, Verdict, section_by_run
from foveal.page.pictures import embedded_file
from foveal.page.words import counted
from foveal.report.companions import map_note
from foveal.report.evidence import Evidence
from foveal.report.gallery import SIDE, worst_of

MOST_MAPS = 12
SCORED = "How well the maps find known lesions"
ALIKE = "Do the maps depend on the grader?"
CANNOT = (
    "A map shows where the grader looked, not whether its reason was right: it may look at a lesion and misread it.",
    "A map is coarse. A microaneurysm is smaller than the smallest spot that it can show.",
    "A map that looks sensible proves little: even maps of untrained graders can look sensible. Only the scores on "
    "this "
    "page, if there are any, are evidence.",
)


def explanations(graders: Sequence[Evidence], most_errors: int) -> Section | None:
    """Method, scores and heat maps; None if nothing was explained.

    The maps of the first `most_errors` worst errors are shown with those errors, and not repeated here.
    """
    explained = [run for run in graders if run.companions.explained]
    if not explained:
        return None
    runs = [(run.name, _parts(run, most_errors)) for run in explained]
    found = section_by_run("explanations", "Where the grader looked", runs, short="Where it looked")
    assert found is not None
    own = explained[-1].companions.explained.get("cannot_show")
    cannot: list[Part] = [Heading("What a map cannot show"), Bullets([own, *CANNOT[2:]] if own else CANNOT)]
    return replace(found, parts=[*found.parts, *cannot])


def _parts(run: Evidence, most_errors: int) -> list[Part]:
    explained, images = run.companions.explained, run.companions.images
    score = explained.get("score") or {}
    beside_errors = {str(row["id"]) for row in worst_of(run, most_errors)}
    new = [image for image in images if str(image.get("id")) not in beside_errors or not run.companions.picture(image)]
    elsewhere = len(images) - len(new)
    beside = f"{counted(elsewhere, 'map')} {'is' if elsewhere == 1 else 'are'} shown with the worst errors above."
    parts: list[Part] = [" ".join([_sentence(explained), *[READING] * bool(images), *[beside] * bool(elsewhere)])]
    parts += [COLOUR_SCALE] * bool(images)
    if score.get("verdict"):
        parts.append(Markup("<strong>{}</strong>").format(score["verdict"]))
    parts += [_alarms(images)] if any(image.get("alarm") for image in images) else []
    tables = {SCORED: score_table(score), ALIKE: alike_table(score)}
    parts += [replace(table, caption=caption) for caption, table in tables.items() if table is not None]
    pictures = [_picture(run, image) for image in new if run.companions.picture(image)][:MOST_MAPS]
    return [*parts, Gallery(pictures)] if pictures else parts


def _sentence(explained: Mapping[str, Any]) -> str:
    if not explained.get("images"):
        return "The heat maps of this grader were scored, but no image of its own set was explained."
    target = f". They explain: {explained['target']}" if explained.get("target") else ""
    return f"Method: {explained.get('method') or 'unknown'}{target}."


def _alarms(images: Sequence[Mapping[str, Any]]) -> Verdict:
    alarms = sum(bool(image.get("alarm")) for image in images)
    text = (
        f"In {alarms} of {len(images)} images, much of the map is on the edge of the picture or outside the retina, "
        "where "
        "there is no disease. Do not trust those grades."
    )
    return Verdict(tone="unsure", text=text)


def _picture(run: Evidence, image: Mapping[str, Any]) -> Picture:
    file, note = run.companions.picture(image), map_note(image)
    assert file is not None
    return Picture(
        source=embedded_file(file, SIDE), id=str(image.get("id")), text=f"given {run.class_name(image.get('grade'))}",
        lines=[f"true {run.class_name(image.get('label'))}", *[f"map: {note}"] * bool(note)],
        alarm="alarm" if note and image.get("alarm") else "",
    )  # fmt: skip
