"""Pictures of single images: the worst errors, where the grader looked, and doubtful labels.

A run folder holds pictures only of images that were misgraded; others come from the prepared set if it is still there.
"""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from foveal.errors import FovealError
from foveal.page.parts import Cell, Picture, Shown
from foveal.page.pictures import embedded, embedded_file
from foveal.page.words import number
from foveal.report.evidence import Evidence
from foveal.sets.records import open_prepared

SIDE = 320  # pixels of a photograph in a gallery; larger ones are scaled down
SMALL_SIDE = 96  # the same for doubtful labels: some 3 KB each
MOST_PICTURES = 12  # of the worst errors of one run, and of heat maps
MOST_DOUBTS = 20


def worst_errors(graders: Sequence[Evidence], most: int = MOST_PICTURES) -> list[dict[str, Any]]:
    """The misgraded pictures of every grader that has a table of them, worst first."""
    runs = []
    for run in graders:
        if run.misgraded is not None and run.predictions is not None:
            part, judged = _judged(run)
            distance = (judged["grade"] - judged["label"]).abs()
            runs.append({
                "name": run.name, "part": part or "labelled", "judged": len(judged), "wrong": int((distance > 0).sum()),
                "far": int((distance > 1).sum()) if run.ordered else None,
                "pictures": [
                    _pictured(run, str(row["id"]), f"{run.class_name(row['label'])} → {run.class_name(row['grade'])}",
                              f"probability {float(row['probability']):.2f}", run.explanation(str(row["id"])),
                              _file(run, row)) for row in worst_of(run, most)],
            })  # fmt: skip
    return runs


def _judged(run: Evidence) -> tuple[str, pd.DataFrame]:
    """("test", its labelled images), or ("", all labelled images) if the test part has none."""
    assert run.predictions is not None
    labelled = run.predictions[run.predictions["label"].notna()]
    test = labelled[labelled["split"] == "test"]
    return ("test", test) if len(test) else ("", labelled)


def worst_of(run: Evidence, most: int) -> list[dict[Any, Any]]:
    """The first `most` rows of misgraded.csv that have a picture and are errors by the current labels."""
    if run.misgraded is None or run.predictions is None:
        return []
    part, judged = _judged(run)
    table = run.misgraded[run.misgraded["split"] == part] if part else run.misgraded
    labels = table["id"].map(judged.set_index("id")["label"].astype(str)).fillna(table["label"])
    rows = table.assign(label=labels).to_dict("records")
    return [row for row in rows if row["label"] != row["grade"] and _file(run, row)][:most]


def _file(run: Evidence, row: Mapping[Any, Any]) -> Path | None:
    """The picture of a row of misgraded.csv, never one outside the folder; None if it is missing."""
    file = run.path / "misgraded" / Path(str(row["picture"])).name
    return file if file.is_file() else None


def _pictured(run: Evidence, name: str, text: str, line: str, image: Any, photograph: Path | None = None) -> Picture:
    """A photograph beside where the grader looked, or one of the two; image: the entry of explain.json, if any."""
    heat, border = (run.heat_map(image), image.get("border_energy")) if image else (None, None)
    note = (image or {}).get("note") or ("" if border is None else f"{border:.0%} of it is on the edge")
    sources = [embedded_file(file, SIDE) for file in (photograph, heat) if file is not None]
    return Picture(source=sources[0], overlay="".join(sources[1:]), overlay_shows="where the grader looked", id=name,
                   text=text, lines=[line, *[f"map: {note}"] * bool(note)],
                   alarm="alarm" if note and image.get("alarm") else "")  # fmt: skip


def explanations(graders: Sequence[Evidence], most_errors: int) -> dict[str, Any] | None:
    """Method and heat maps, without those shown with the first `most_errors` worst errors."""
    runs = []
    for run in (run for run in graders if run.explained):
        images = run.explained.get("images", [])
        beside_errors = {str(row["id"]) for row in worst_of(run, most_errors)}
        new = [image for image in images
               if run.maps_failed or str(image.get("id")) not in beside_errors or not run.heat_map(image)]  # fmt: skip
        shown = [image for image in new if run.heat_map(image) and not run.maps_failed][:MOST_PICTURES]
        runs.append({
            "name": run.name, "images": len(images), "elsewhere": len(images) - len(new), "failed": run.maps_failed,
            "method": run.explained.get("method") or "unknown", "target": run.explained.get("target"),
            "alarms": sum(bool(image.get("alarm")) for image in images),
            "cannot_show": run.explained.get("cannot_show"),
            "pictures": [_pictured(run, str(image["id"]), f"given {run.class_name(image.get('grade'))}",
                                   f"true {run.class_name(image.get('label'))}", image) for image in shown],
        })  # fmt: skip
    return {"runs": runs, "cannot_show": runs[-1]["cannot_show"]} if runs else None


def doubts(graders: Sequence[Evidence]) -> list[dict[str, Any]]:
    """The most suspicious labels of every grader whose labels were checked."""
    runs, most = [], MOST_DOUBTS // max(1, len(graders))
    for run in graders:
        if run.doubts is not None:
            suspicion = pd.to_numeric(run.doubts["suspicion"], errors="coerce").fillna(0)
            doubted = run.doubts.assign(suspicion=suspicion)[run.doubts["likely"] != run.doubts["label"]]
            shown = doubted.sort_values(["suspicion", "id"], ascending=[False, True]).head(most)
            pictures = _thumbnails(run, list(shown["id"]))
            runs.append({"name": run.name, "doubted": len(doubted),
                         "data": shlex.quote(str(run.options.get("data", "DATA"))),
                         "rows": [_doubt(run, row, pictures) for row in shown.to_dict("records")]})  # fmt: skip
    return runs


def _doubt(run: Evidence, row: Mapping[Any, Any], pictures: Mapping[str, str]) -> list[Shown]:
    name, figures = str(row["id"]), pd.to_numeric([row["probability"], row["suspicion"]], errors="coerce")
    return [Cell(text=name, picture=pictures.get(name, "")), run.class_name(row["label"]),
            run.class_name(row["grade"]) if "grade" in row else "–", run.class_name(row["likely"]),
            *map(number, figures)]  # fmt: skip


def _thumbnails(run: Evidence, names: Sequence[str]) -> dict[str, str]:
    """Image id -> data: URL of a small picture, for the images that were misgraded or are in the prepared set."""
    rows = [] if run.misgraded is None else run.misgraded[run.misgraded["id"].isin(names)].to_dict("records")
    found = {str(row["id"]): embedded_file(file, SMALL_SIDE) for row in rows if (file := _file(run, row))}
    with suppress(FovealError):  # the set is gone, damaged or being written again; the report works without it
        prepared = open_prepared(run.started_in / str(run.options.get("data", "")))
        if prepared.card["identity"] == run.card.get("identity"):  # no other set is in its place
            records = prepared.records[prepared.records["id"].isin(names)]
            pictures = zip(records["id"], prepared.pixels(records), strict=True)
            found |= {str(name): embedded(pixels, SMALL_SIDE) for name, pixels in pictures}
    return found
