"""Messidor-1: photographs of three French departments, graded 0-3 on a scale of their own.

As published (ADCIS): twelve folders Base11 … Base34 of TIFFs and twelve tables, Annotation_Base11.xls …, sheet Feuil1
(Image name, Ophthalmologic department, Retinopathy grade, Risk of macular edema). Also read, as single tables at the
top with pictures of any ending below: a course's `Mess1_annotation_train.csv` (unnamed index, image, quality, type,
Retinopathy_grade, Risk_of_macular_edema, or only two of these columns) and `train_labels.csv`, which has no copies
(image_fname, diagnosis, id_code). Pictures are matched by name.
Traps: the scale is not ICDR (`cards.py`), and nothing here maps one to the other; names of columns end in a space;
13 photographs of Base33 appear twice, two of them with two grades; ADCIS published corrections of Base11 and
Base13 as tables …_update20161024.xls, which are used where they lie beside the old ones. There are no patients: the
date in a name makes the group, which certainly holds a whole examination.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

from foveal.sources.cards import MESSIDOR
from foveal.sources.cells import has_columns, read_grades, read_rows, read_table
from foveal.sources.labelled import Labelled, graded
from foveal.sources.messidor2 import group_examinations
from foveal.sources.source import Source, SourceOptions, keep_columns, make_table, needed, without_ending

PUBLISHED = ("Image name", "Retinopathy grade")
# Columns of a single table, and the pattern of its image names by which `auto` recognises Messidor-1.
SINGLE = {
    ("image", "Retinopathy_grade"): re.compile(r"\d{8}_\d+_\d{4}_PP"),
    ("image_fname", "diagnosis"): re.compile(r"\d{8}_\d+_\d{4}_PP\.tif"),
}


def recognise(root: Path) -> bool:
    """Annotation_Base*.xls or .csv in a folder or up to two below; or one table at its top with Messidor-1's names."""
    return bool(_tables(root))


def load(root: Path, options: SourceOptions) -> Source:
    """Graded photographs; photographs that the tables do not name are a pool."""
    tables = needed(_tables(root), root, "messidor")
    parts = [_read(file, columns, root) for file, columns in tables.items()]
    scale = "the grades are on Messidor's own scale 0-3, which is not ICDR"
    source = graded(root, parts, MESSIDOR, scale, *_warnings([file.name for file in tables]))
    return replace(source, table=group_examinations(source.table, {}))


def _tables(root: Path) -> dict[Path, tuple[str, str]]:
    """Tables and their columns of image and grade: the twelve published ones, or the single one at the top."""
    bases: dict[str, Path] = {}
    # The corrected table of a base comes after the first one and replaces it.
    for file in sorted((f for depth in ("", "*/", "*/*/") for f in root.glob(f"{depth}Annotation?Base*")), key=_age):
        if file.suffix.lower() in {".xls", ".xlsx", ".csv"}:
            bases[file.name[:17]] = file
    if bases:
        return {bases[base]: PUBLISHED for base in sorted(bases)}
    single = {
        file: columns
        for file in sorted(root.glob("*.csv"))
        for columns, pattern in SINGLE.items()
        if has_columns(file, columns) and all(map(pattern.fullmatch, read_rows(file)[columns[0]].head()))
    }
    return single if len(single) == 1 else {}


def _age(file: Path) -> tuple[bool, str]:
    return "update" in file.name, file.name


def _read(file: Path, columns: tuple[str, str], root: Path) -> Labelled:
    rows = read_table(file, columns)
    names = [without_ending(name) for name in rows[columns[0]]]
    grades = read_grades(names, rows[columns[1]], len(MESSIDOR), file)
    table = make_table(names, list(rows[columns[0]]), grades, flags=_flags(rows))
    return Labelled(table=file, folder=root, rows=keep_columns(table, rows, (*columns, "quality", "type")))


def _flags(rows: pd.DataFrame) -> list[str]:
    """The course's columns as words: quality 0 as `quality-0`, type _101 as `type_101`."""
    blank = pd.Series([""] * len(rows))
    quality, kind = rows.get("quality", blank), rows.get("type", blank)
    words = ((f"quality-{q}" if q else "", f"type{k}" if k else "") for q, k in zip(quality, kind, strict=True))
    return [" ".join(filter(None, pair)) for pair in words]


def _warnings(names: list[str]) -> list[str]:
    """Known faults of the published tables."""
    old = [name for name in names if re.match("Annotation.Base1[13]", name) and "update" not in name]
    copies = any(re.match("Annotation.Base33", name) for name in names)
    return [
        f"{', '.join(old)}: ADCIS has published corrections, which are not used here" if old else "",
        "Base33 holds 13 pairs of copies, two of them with different grades" if copies else "",
    ]
