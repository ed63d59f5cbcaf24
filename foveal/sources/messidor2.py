"""Messidor-2 as published: a folder of photographs and Google's adjudicated grades, `messidor_data.csv`.

The table names .png and .jpg files whose endings and case differ on disk, so rows are matched by name without ending.
Traps: ungradable photographs have empty cells; they keep their row, with the flag `ungradable` and no label. There is
no table of patients: with ADCIS's `messidor-2.csv` (left;right) beside it, pairs make the groups; without it, all `_PP`
photographs of a date and all `IM` photographs of a block of a hundred numbers are kept together, which is coarser than
patients and therefore safe.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

from foveal.sources.cards import ICDR
from foveal.sources.cells import check_cells, flag_ungradable, read_grades, read_table
from foveal.sources.labelled import Labelled, graded
from foveal.sources.source import Source, SourceOptions, keep_columns, make_table, needed

LABELS = "messidor_data.csv"
COLUMNS = ("image_id", "adjudicated_dr_grade", "adjudicated_dme", "adjudicated_gradable")
PAIRS = "messidor-2.csv"
# Matches the name of a patient in a prepared set whose groups, joined by copies, include one of `group_of`.
COARSE = re.compile(r"(?:^|\+)messidor2?/(\d{8}|IM\d+xx)(?=\+|$)")


def recognise(root: Path) -> bool:
    """A folder with messidor_data.csv."""
    return (root / LABELS).is_file()


def load(root: Path, options: SourceOptions) -> Source:
    """Graded photographs; photographs that the table does not name are a pool."""
    file = needed(root / LABELS if recognise(root) else None, root, "messidor2")
    rows = read_table(file, COLUMNS)
    names = list(rows["image_id"])
    check_cells(names, rows["adjudicated_gradable"], "adjudicated_gradable", ("0", "1"), file)
    cells = rows["adjudicated_dr_grade"].mask(rows["adjudicated_gradable"] == "0", "ungradable")
    grades = read_grades(names, cells, len(ICDR), file, "ungradable")
    table = make_table([Path(name).stem for name in names], names, grades, flags=flag_ungradable(grades))
    table = keep_columns(table, rows, {*COLUMNS} - {"adjudicated_dme"})
    source = graded(root, [Labelled(table=file, folder=root, rows=table)], ICDR)
    return replace(source, table=group_examinations(source.table, _pairs(root / PAIRS)))


def group_examinations(table: pd.DataFrame, pairs: dict[str, str]) -> pd.DataFrame:
    """`table` with ids without folders, and groups: the examination in `pairs`, otherwise that of `group_of`."""
    stems = [Path(name).name for name in table["id"]]
    return table.assign(id=stems, group=[pairs.get(stem.lower()) or group_of(stem) for stem in stems])


def _pairs(file: Path) -> dict[str, str]:
    """Name in lower case -> examination, from ADCIS's table of left;right."""
    if not file.is_file():
        return {}
    rows = read_table(file, ("left", "right"))
    return {
        Path(name).stem.lower(): Path(left).stem.lower()
        for left, right in zip(rows["left"], rows["right"], strict=True)
        for name in (left, right)
    }


def group_of(stem: str) -> str:
    """A group that certainly holds the whole examination: the date of `20051020_…_PP`, the hundred of `IM001234`."""
    date = re.match(r"(\d{8})_", stem)
    number = re.fullmatch(r"IM(\d+)", stem, re.IGNORECASE)
    if date:
        return date[1]
    return f"IM{int(number[1]) // 100:04d}xx" if number else stem
