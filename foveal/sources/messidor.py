"""Messidor-1: photographs of three French departments, graded 0-3 on a scale of their own.

As published (ADCIS): twelve folders Base11 … Base34 of TIFFs and twelve tables, Annotation_Base11.xls …, sheet Feuil1
(Image name, Ophthalmologic department, Retinopathy grade, Risk of macular edema). Also read, as single tables at the
top with pictures of any ending below: a course's `Mess1_annotation_train.csv` (unnamed index, image, quality, type,
Retinopathy_grade, Risk_of_macular_edema, or two of these columns alone) and the copy-free `train_labels.csv`
(image_fname, diagnosis, id_code). Pictures are matched by name.
Traps: the scale is not ICDR (`cards.py`), and nothing here maps one to the other; names of columns end in a space;
13 photographs of Base33 stand in it twice, two of them with two grades; ADCIS published corrections of Base11 and
Base13 as tables …_update20161024.xls, which are taken where they lie beside the old ones. There are no patients in
it: the date in a name makes the group, which certainly holds a whole examination.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from foveal.sources.cards import MESSIDOR
from foveal.sources.messidor2 import group_examinations
from foveal.sources.source import Source, SourceOptions, add_pictures, keep_columns, make_table, pool_note, unmet
from foveal.sources.table import has_columns, read_grades, read_rows, read_sheet, require_columns, without_ending

PUBLISHED = ("Image name", "Retinopathy grade")
# Columns of a single table and what its first names must look like, for it to be taken for Messidor-1 unasked.
SINGLE = {
    ("image", "Retinopathy_grade"): re.compile(r"\d{8}_\d+_\d{4}_PP"),
    ("image_fname", "diagnosis"): re.compile(r"\d{8}_\d+_\d{4}_PP\.tif"),
}


def recognise(root: Path) -> bool:
    """Annotation_Base*.xls or .csv in a folder or up to two below; or one table at its top with Messidor-1's names."""
    return bool(_tables(root))


def load(root: Path, options: SourceOptions) -> Source:
    """Graded photographs; photographs that the tables do not name are a pool."""
    tables = _tables(root)
    if not tables:
        raise unmet(root, "messidor")
    named = pd.concat([_read(file, columns) for file, columns in tables.items()], ignore_index=True)
    table, pool = add_pictures(root, [(root, named)])
    notes = (
        f"grades from {', '.join(str(file.relative_to(root)) for file in tables)}",
        "they are on Messidor's own scale 0-3, which is not that of ICDR",
        *_warnings([file.name for file in tables]),
        pool_note(pool),
    )
    return Source(root=root, table=group_examinations(table, {}), classes=MESSIDOR, notes=notes)


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


def _read(file: Path, columns: tuple[str, str]) -> pd.DataFrame:
    rows = read_rows(file) if file.suffix.lower() == ".csv" else read_sheet(file)
    rows = require_columns(rows, columns, file)
    names = [without_ending(name) for name in rows[columns[0]]]
    grades = read_grades(names, rows[columns[1]], len(MESSIDOR), file)
    table = make_table(names, list(rows[columns[0]]), grades, flags=_flags(rows))
    return keep_columns(table, rows, (*columns, "quality", "type"))


def _flags(rows: pd.DataFrame) -> list[str]:
    """The course's columns as words: quality 0 as `quality-0`, type _101 as `type_101`."""
    blank = pd.Series([""] * len(rows))
    quality, kind = rows.get("quality", blank), rows.get("type", blank)
    words = ((f"quality-{q}" if q else "", f"type{k}" if k else "") for q, k in zip(quality, kind, strict=True))
    return [" ".join(filter(None, pair)) for pair in words]


def _warnings(names: list[str]) -> list[str]:
    """What is known to be wrong in the published tables."""
    old = [name for name in names if re.match("Annotation.Base1[13]", name) and "update" not in name]
    copies = any(re.match("Annotation.Base33", name) for name in names)
    return [
        f"{', '.join(old)}: ADCIS has published corrections, which are not in there" if old else "",
        "Base33 holds 13 pairs of copies, two of them with different grades" if copies else "",
    ]
