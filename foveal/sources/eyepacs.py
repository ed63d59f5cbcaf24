"""EyePACS, as in Kaggle's Diabetic Retinopathy Detection of 2015: both eyes of each patient, graded 0-4.

As published: trainLabels.csv (image, level) with train/17_left.jpeg, and, given out after the contest,
retinopathy_solution.csv (image, level, Usage) with test/. Usage is Public or Private, the two leader boards: it
becomes a flag, so that either can be picked. With both tables the solution is the test part; with one alone, the
split is decided anew. Pictures may lie in any folder below.
Traps: the patient is the number before _left or _right, and both eyes of 87 % of the patients have the same grade, so
a split by photograph leaks.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from foveal.sources.cards import ICDR
from foveal.sources.source import Source, SourceOptions, add_pictures, make_table, patients_and_eyes, pool_note, unmet
from foveal.sources.table import has_columns, read_grades, read_rows, require_columns, without_ending

TRAIN = ("trainLabels.csv", ("image", "level"))
TEST = ("retinopathy_solution.csv", ("image", "level", "Usage"))


def recognise(root: Path) -> bool:
    """A folder with trainLabels.csv or retinopathy_solution.csv, with their columns."""
    return any(has_columns(root / name, columns) for name, columns in (TRAIN, TEST))


def load(root: Path, options: SourceOptions) -> Source:
    """Graded photographs with patient and eye; photographs without a grade are a pool."""
    files = [(root / name, columns) for name, columns in (TRAIN, TEST) if (root / name).is_file()]
    if not files:
        raise unmet(root, "eyepacs")
    splits = ["train", "test"] if len(files) == 2 else [""]
    parts = [_read(file, columns, split) for (file, columns), split in zip(files, splits, strict=True)]
    table, pool = add_pictures(root, [(root, pd.concat(parts, ignore_index=True))])
    notes = (f"grades from {', '.join(file.name for file, _ in files)}", pool_note(pool))
    return Source(root=root, table=table, classes=ICDR, notes=notes)


def _read(file: Path, columns: tuple[str, ...], split: str) -> pd.DataFrame:
    rows = require_columns(read_rows(file), columns, file)
    names = [without_ending(name) for name in rows["image"]]
    grades = read_grades(names, rows["level"], len(ICDR), file)
    strange = [name for name in names if not re.fullmatch(r"\d+_(left|right)", name)]
    if strange:
        raise ValueError(f"{file}: image '{strange[0]}' is not named as 17_left or 17_right, patient and eye")
    patients, eyes = patients_and_eyes(names)
    flags = _usage(names, rows, file) if "Usage" in columns else None
    return make_table(names, names, grades, [split] * len(names), patients, eyes, flags)


def _usage(names: list[str], rows: pd.DataFrame, file: Path) -> list[str]:
    """Flags `public` and `private`."""
    for name, usage in zip(names, rows["Usage"], strict=True):
        if usage not in {"Public", "Private"}:
            raise ValueError(f"{file}: Usage '{usage}' of {name} is neither Public nor Private")
    return list(rows["Usage"].str.lower())
