"""Pictures of a run folder as part of the page, so that the page is one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from foveal.page.pictures import embedded_file
from foveal.page.words import counted
from foveal.report.companions import map_note
from foveal.report.evidence import Evidence

SIDE = 320  # pixels of a photograph in the gallery; larger ones are scaled down
SHEET_SIDE = 1200  # the same for a sheet of views
QUALITY = 85
MOST_PICTURES = 12  # in the gallery of one run


@dataclass(frozen=True, kw_only=True)
class Misgraded:
    """One photograph that got another class than its label."""

    source: str  # data: address of a JPEG
    overlay: str  # the same of where the grader looked; empty where that is not known
    id: str
    true: str
    given: str
    probability: str
    note: str  # what stands below the overlay
    alarm: bool


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The worst mistakes of one grader, and how many there are."""

    run: str
    sentence: str
    pictures: list[Misgraded]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """Originals and random views of them, as one or more runs have learned from."""

    runs: str
    source: str  # data: address of a JPEG
    recipe: str


def sheets(runs: list[Evidence]) -> list[Sheet]:
    """The sheets of views; runs that share one (the same recipe and images) share its place on the page."""
    names: dict[str, list[str]] = {}
    recipes: dict[str, str] = {}
    for run in runs:
        if (run.path / "views.jpg").is_file():
            source = embedded_file(run.path / "views.jpg", SHEET_SIDE)
            names.setdefault(source, []).append(run.name)
            recipes[source] = str(run.options.get("views"))
    return [Sheet(runs=", ".join(names[source]), source=source, recipe=recipes[source]) for source in names]


def gallery(run: Evidence, most: int = MOST_PICTURES) -> Gallery | None:
    """The misgraded pictures, `most` of the worst first; None for a run that has no table of them."""
    if run.misgraded is None or run.predictions is None:
        return None
    labelled = run.predictions[run.predictions["label"].notna()]
    part = "test" if (labelled["split"] == "test").any() else None
    judged = labelled if part is None else labelled[labelled["split"] == part]
    listed = run.misgraded if part is None else run.misgraded[run.misgraded["split"] == part]
    rows = [row for row in _still_wrong(listed, judged) if (file := _file(run, row)) and file.is_file()][:most]
    distance = (judged["grade"] - judged["label"]).abs()
    images = counted(len(judged), f"{part or 'labelled'} image")
    text = f"{int((distance > 0).sum()):,} of {images} got another class than their label"
    if run.ordered:
        text += f", {int((distance > 1).sum()):,} of them by two grades or more"
    text += f". The {len(rows)} worst are shown; misgraded.csv lists all." if rows else "."
    return Gallery(run=run.name, sentence=text, pictures=[_misgraded(run, row) for row in rows])


def _still_wrong(misgraded: pd.DataFrame, judged: pd.DataFrame) -> list[dict[Any, Any]]:
    """The rows of misgraded.csv with the labels as they are now, without those that a correction has proved right."""
    labels = dict(zip(judged["id"], judged["label"].astype(str), strict=True))
    rows = [{**row, "label": labels.get(row["id"], row["label"])} for row in misgraded.to_dict("records")]
    return [row for row in rows if row["label"] != row["grade"]]


def _file(run: Evidence, row: Mapping[Any, Any]) -> Path | None:
    name = Path(str(row["picture"])).name  # never a path that leads out of the folder
    return run.path / "misgraded" / name if name else None


def _misgraded(run: Evidence, row: Mapping[Any, Any]) -> Misgraded:
    file = _file(run, row)
    assert file is not None
    explained = run.companions.explanation(str(row["id"])) or {}
    overlay = run.companions.picture(explained) if explained else None
    return Misgraded(
        source=embedded_file(file, SIDE),
        overlay="" if overlay is None else embedded_file(overlay, SIDE),
        note=map_note(explained),
        alarm=bool(explained.get("alarm")),
        id=str(row["id"]),
        true=run.classes[int(row["label"])],
        given=run.classes[int(row["grade"])],
        probability=f"{float(row['probability']):.2f}",
    )


def picture_of(run: Evidence, name: str) -> Path | None:
    """The picture of image `name` among the misgraded ones; the only pictures that a run holds."""
    if run.misgraded is None:
        return None
    rows = run.misgraded[run.misgraded["id"] == name].to_dict("records")
    file = _file(run, rows[0]) if rows else None
    return file if file is not None and file.is_file() else None
