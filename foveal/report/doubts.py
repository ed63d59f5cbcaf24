"""Labels that may be wrong according to the grader, with the labels of the most similar images.

The pictures come from the prepared set if it is still in its place, otherwise from the run. An image that is in neither
is listed without a picture.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from foveal.errors import FovealError
from foveal.page.parts import Cell, Note, Part, Section, Table, cells, code, section_by_run
from foveal.page.pictures import embedded, embedded_file
from foveal.page.words import counted, listed, number
from foveal.report.evidence import Evidence
from foveal.report.gallery import picture_of
from foveal.sets.records import PreparedSet, open_prepared

MOST_DOUBTS = 20
MOST_NEIGHBOURS = 5
SIDE = 96  # pixels of a picture: some 3 KB each
INTRO = (
    "Look at these images again before you change a label: the grader also doubts labels of images that it cannot read."
)
NOTE = (
    "Given is the grade of the grader. Suggested is the most likely true label. To change a label after a second look, "
    "record "
    "a correction; the source files stay unchanged:"
)


def doubts(graders: Sequence[Evidence]) -> Section | None:
    """The most suspicious labels of every grader; None if the labels were not checked."""
    most = MOST_DOUBTS // max(1, len(graders))
    runs = [(run.name, _parts(run, most)) for run in graders]
    return section_by_run("doubts", "Labels that may be wrong", runs, intro=[INTRO], short="Doubtful labels")


def _parts(run: Evidence, most: int) -> list[Part]:
    table = run.companions.doubts
    if table is None:
        return []
    suspicion = pd.to_numeric(table["suspicion"], errors="coerce").fillna(0)
    doubted = table.assign(suspicion=suspicion)[table["likely"] != table["label"]]
    ranked = doubted.sort_values(["suspicion", "id"], ascending=[False, True])
    text = f"{counted(len(ranked), 'label')} that {run.name} did not learn from may be wrong"
    if len(ranked) > most:
        text += f". The {most} most suspicious are shown; label_noise.csv lists all"
    if not len(ranked):
        return [f"{text}."]
    command = f"foveal correct {shlex.quote(str(run.options.get('data', 'DATA')))} ID --new GRADE --why REASON"
    note = Markup("{} {}").format(NOTE, code(command))
    return [f"{text}.", _table(run, ranked.head(most)), Note(note)]


def _table(run: Evidence, doubted: pd.DataFrame) -> Table:
    pictures = _thumbnails(run, list(doubted["id"]))
    rows = [_row(run, row, pictures.get(str(row["id"]), "")) for row in doubted.to_dict("records")]
    columns = ["image", "label", "given", "suggested", "probability of the label", "suspicion"]
    if run.companions.neighbours is not None:
        columns.append(f"labels of the {MOST_NEIGHBOURS} most similar images")
    return Table(caption="The most suspicious labels", columns=columns, rows=rows)


def _row(run: Evidence, row: Mapping[Any, Any], picture: str) -> list[Cell]:
    given = run.class_name(row["grade"]) if "grade" in row else "–"
    found = [Cell(text=str(row["id"]), picture=picture), *cells(run.class_name(row["label"]), given)]
    found += cells(run.class_name(row["likely"]), _figure(row["probability"]), _figure(row["suspicion"]))
    if run.companions.neighbours is not None:
        near = neighbour_labels(run, str(row["id"]))
        found.append(Cell(text=near or "–", tone="words" if near else "muted"))
    return found


def _figure(value: Any) -> str:
    return number(float(pd.to_numeric(value, errors="coerce")))


def neighbour_labels(run: Evidence, name: str) -> str:
    """`4 no DR, 1 mild NPDR`: labels of the images most similar to `name`; empty if they are not known."""
    near = run.companions.near(name)[:MOST_NEIGHBOURS]
    counts = Counter(run.class_name(row["other_label"]) for row in near)
    return listed([f"{count} {label}" for label, count in counts.most_common()])


def _thumbnails(run: Evidence, names: Sequence[str]) -> dict[str, str]:
    """Image id -> data: URL of a small picture, for the images that are found."""
    found: dict[str, str] = {}
    if (prepared := _prepared_of(run)) is not None:
        records = prepared.records[prepared.records["id"].isin(names)]
        pictures = zip(records["id"], prepared.pixels(records), strict=True)
        found = {str(name): embedded(pixels, SIDE) for name, pixels in pictures}
    for name in names:
        if name not in found and (file := picture_of(run, name)) is not None:
            found[name] = embedded_file(file, SIDE)
    return found


def _prepared_of(run: Evidence) -> PreparedSet | None:
    """The prepared set that the run learned from; None if it is gone or a different set is in its place."""
    folder = run.started_in / str(run.options.get("data", ""))
    if not (folder / "card.json").is_file():
        return None
    try:
        prepared = open_prepared(folder)
    except FovealError:  # it is damaged or being written again; the report works without it
        return None
    return prepared if prepared.card["identity"] == run.card.get("identity") else None
