"""The pictures in a run folder: the worst errors, and sample training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from foveal.page.parts import Gallery, Part, Picture, Section, section_by_run
from foveal.page.pictures import embedded_file
from foveal.page.words import counted
from foveal.report.companions import map_note
from foveal.report.evidence import Evidence

SIDE = 320  # pixels of a photograph in the gallery; larger ones are scaled down
SHEET_SIDE = 1200  # the same for a sheet of views
MOST_PICTURES = 12  # of the worst errors of one run


def worst_errors(graders: Sequence[Evidence], most: int = MOST_PICTURES) -> Section | None:
    """The misgraded pictures of every grader, worst first; None if no run has a table of them."""
    return section_by_run("misgraded", "Worst errors", [(run.name, _errors(run, most)) for run in graders])


def _errors(run: Evidence, most: int) -> list[Part]:
    if run.misgraded is None or run.predictions is None:
        return []
    part, judged = _judged(run.predictions)
    rows, distance = worst_of(run, most), (judged["grade"] - judged["label"]).abs()
    images = counted(len(judged), f"{part or 'labelled'} image")
    text = f"{int((distance > 0).sum()):,} of {images} got a class other than their label"
    if run.ordered:
        text += f", {int((distance > 1).sum()):,} of them by two grades or more"
    text += f". The {len(rows)} worst are shown; misgraded.csv lists all." if rows else "."
    return [text, Gallery([_picture(run, row) for row in rows])] if rows else [text]


def _judged(predictions: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """("test", its labelled images), or ("", all labelled images) if the test part has none."""
    labelled = predictions[predictions["label"].notna()]
    test = labelled[labelled["split"] == "test"]
    return ("test", test) if len(test) else ("", labelled)


def worst_of(run: Evidence, most: int) -> list[dict[Any, Any]]:
    """The first `most` rows of misgraded.csv that have a picture, with the current labels.

    Leaves out images that are no longer errors after a correction.
    """
    if run.misgraded is None or run.predictions is None:
        return []
    part, judged = _judged(run.predictions)
    table = run.misgraded[run.misgraded["split"] == part] if part else run.misgraded
    labels = dict(zip(judged["id"], judged["label"].astype(str), strict=True))
    rows = [{**row, "label": labels.get(row["id"], row["label"])} for row in table.to_dict("records")]
    return [row for row in rows if row["label"] != row["grade"] and _file(run, row)][:most]


def _file(run: Evidence, row: Mapping[Any, Any]) -> Path | None:
    """The picture of a row of misgraded.csv, never one outside the folder; None if it is missing."""
    file = run.path / "misgraded" / Path(str(row["picture"])).name
    return file if file.is_file() else None


def _picture(run: Evidence, row: Mapping[Any, Any]) -> Picture:
    file, explained = _file(run, row), run.companions.explanation(str(row["id"]))
    overlay = None if explained is None else run.companions.picture(explained)
    assert file is not None
    lines = [f"probability {float(row['probability']):.2f}"]
    return Picture(
        source=embedded_file(file, SIDE), overlay="" if overlay is None else embedded_file(overlay, SIDE),
        overlay_shows="where the grader looked", id=str(row["id"]),
        text=f"{run.class_name(row['label'])} → {run.class_name(row['grade'])}",
        lines=lines if explained is None else [*lines, f"map: {map_note(explained)}"],
        alarm="alarm" if explained is not None and explained.get("alarm") else "",
    )  # fmt: skip


def picture_of(run: Evidence, name: str) -> Path | None:
    """The picture of image `name` if it was misgraded: a run folder holds no other pictures."""
    if run.misgraded is None:
        return None
    rows = run.misgraded[run.misgraded["id"] == name].to_dict("records")
    return _file(run, rows[0]) if rows else None


def views(runs: Sequence[Evidence]) -> Section | None:
    """The sheets of random views; runs with the same sheet (same recipe and images) show it once."""
    sheets: dict[str, list[Evidence]] = {}
    for run in runs:
        if (run.path / "views.jpg").is_file():
            sheets.setdefault(embedded_file(run.path / "views.jpg", SHEET_SIDE), []).append(run)
    pictures = [
        Picture(source=source, id=f"recipe {own[0].options.get('views')}", text=", ".join(run.name for run in own))
        for source, own in sheets.items()
    ]
    text = "Each row shows a prepared image on the left, then random views of it like those used in training."
    parts: list[Part] = [text, Gallery(pictures, "whole")]
    return (
        Section(name="views", title="Training images as the network saw them", short="Views", parts=parts)
        if sheets
        else None
    )
