"""Messidor-2 as published: a folder of photographs and Google's adjudicated grades, `messidor_data.csv`.

The table names .png and .jpg files whose endings and case differ on disk, so rows are matched by stem.
Traps: ungradable photographs have empty cells; they keep their row, with the flag `ungradable` and no label. There is
no patient table in it: with ADCIS's `messidor-2.csv` (left;right) beside it, pairs make the groups; without it, all
`_PP` photographs of a date and all `IM` photographs of a block of a hundred numbers are kept together, which is
coarser than patients and therefore safe.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from foveal.sources.cards import ICDR
from foveal.sources.source import Source, SourceOptions, add_pictures, keep_columns, make_table, unmet
from foveal.sources.table import flag_ungradable, read_grades, read_rows, require_columns

LABELS = "messidor_data.csv"
HEADER = ("image_id", "adjudicated_dr_grade", "adjudicated_dme", "adjudicated_gradable")
PAIRS = "messidor-2.csv"
# A name that `patients` gives, with a group of `group_of` among those that copies tie together.
COARSE = re.compile(r"(?:^|\+)messidor2?/(\d{8}|IM\d+xx)(?=\+|$)")


def recognise(root: Path) -> bool:
    """A folder with messidor_data.csv."""
    return (root / LABELS).is_file()


def load(root: Path, options: SourceOptions) -> Source:
    """Graded photographs with their grade; photographs that the table does not name are a pool."""
    file = root / LABELS
    if not file.is_file():
        raise unmet(root, "messidor2")
    rows = require_columns(read_rows(file), HEADER, file)
    names, gradable = list(rows["image_id"]), list(rows["adjudicated_gradable"])
    for name, said in zip(names, gradable, strict=True):
        if said not in {"0", "1"}:
            raise ValueError(f"{file}: adjudicated_gradable of {name} is '{said}', neither 0 nor 1")
    cells = [
        "ungradable" if said == "0" else cell for said, cell in zip(gradable, rows["adjudicated_dr_grade"], strict=True)
    ]
    grades = read_grades(names, cells, len(ICDR), file, "ungradable")
    named = make_table([Path(name).stem for name in names], names, grades, flags=flag_ungradable(grades))
    named = keep_columns(named, rows, HEADER[:2] + HEADER[3:])
    table, pool = add_pictures(root, [(root, named)])
    table = group_examinations(table, _pairs(root / PAIRS))
    ungradable = gradable.count("0")
    notes = (
        f"grades from {LABELS}",
        f"{ungradable} photographs are marked ungradable and have no grade (flag ungradable)",
        f"{pool} are not in the table: a pool" if pool else "",
    )
    return Source(root=root, table=table, classes=ICDR, notes=notes)


def group_examinations(table: pd.DataFrame, pairs: dict[str, str]) -> pd.DataFrame:
    """`table` with stems as ids, and groups: the examination in `pairs` (by stem), else what certainly holds it."""
    stems = [Path(name).name for name in table["id"]]
    return table.assign(id=stems, group=[pairs.get(stem.lower()) or group_of(stem) for stem in stems])


def _pairs(file: Path) -> dict[str, str]:
    """Stem -> examination, from ADCIS's table of left;right."""
    if not file.is_file():
        return {}
    rows = require_columns(read_rows(file), ("left", "right"), file)
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
