"""Labels that may be wrong: images that the grader doubts, with what the images most like them are labelled."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from foveal.page.parts import Cell, Table, cells
from foveal.page.words import counted, listed, number
from foveal.report.companions import whole
from foveal.report.evidence import Evidence
from foveal.report.thumbnails import thumbnails

MOST_DOUBTS = 20
MOST_NEIGHBOURS = 5


def doubts_part(run: Evidence, most: int = MOST_DOUBTS) -> dict[str, Any] | None:
    """Sentence and table, the most doubted first; None where labels were not looked at."""
    table = run.companions.doubts
    if table is None:
        return None
    suspicion = pd.to_numeric(table["suspicion"], errors="coerce").fillna(0)
    doubted = table.assign(suspicion=suspicion)[table["likely"] != table["label"]]
    ranked = doubted.sort_values(["suspicion", "id"], ascending=[False, True])
    pictures = thumbnails(run, list(ranked["id"].head(most)))
    rows = [_row(run, row, pictures) for row in ranked.head(most).to_dict("records")]
    text = f"{counted(len(ranked), 'label')} that {run.name} has not learned from may be wrong"
    if len(ranked) > most:
        text += f"; the {most} most suspicious are shown, label_noise.csv lists all"
    columns = ["image", "label", "given", "rather", "probability of the label", "suspicion"]
    if run.companions.neighbours is not None:
        columns.append(f"labels of the {MOST_NEIGHBOURS} most like it")
    command = f"foveal correct {shlex.quote(str(run.options.get('data', 'DATA')))} ID --new GRADE --why REASON"
    table_of = Table(columns=columns, rows=rows) if rows else None
    return {"sentence": f"{text}.", "table": table_of, "command": command}


def _row(run: Evidence, row: Mapping[Any, Any], pictures: Mapping[str, str]) -> list[Cell]:
    label, likely = class_name(run, row["label"]), class_name(run, row["likely"])
    given = class_name(run, row["grade"]) if "grade" in row else "–"
    name = str(row["id"])
    found = [Cell(text=name, picture=pictures.get(name, "")), *cells(label, given, likely)]
    found += cells(_figure(row["probability"]), _figure(row["suspicion"]))
    if run.companions.neighbours is not None:
        near = neighbour_labels(run, name)
        found.append(Cell(text=near or "–", tone="words" if near else "muted"))
    return found


def neighbour_labels(run: Evidence, name: str) -> str:
    """`4 no DR, 1 mild NPDR`: labels of the images most like `name`; empty where they are not known."""
    near = run.companions.near(name)[:MOST_NEIGHBOURS]
    counts = Counter(class_name(run, row["other_label"]) for row in near)
    return listed([f"{count} {label}" for label, count in counts.most_common()])


def class_name(run: Evidence, value: Any) -> str:
    """The class that a table numbers or names."""
    label = whole(value)
    if label is not None:
        return run.classes[label] if 0 <= label < len(run.classes) else str(value)
    return str(value) if value in run.classes else "no label"


def _figure(value: Any) -> str:
    return number(float(pd.to_numeric(value, errors="coerce")))
