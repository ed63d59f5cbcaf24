"""EyePACS, as in Kaggle's Diabetic Retinopathy Detection of 2015: both eyes of each patient, graded 0-4.

As published: trainLabels.csv (image, level) with train/17_left.jpeg, and retinopathy_solution.csv (image, level,
Usage), published after the contest, with test/. Usage names the leader board, Public or Private; it becomes a flag, so
that either can be selected. With both tables the solution is the test part; with one of them, `prepare`
makes the split. Pictures may lie in any folder below.
Traps: the patient is the number before _left or _right. In 87 % of the patients both eyes have the same grade, so a
split by photograph leaks.
"""

from __future__ import annotations

from pathlib import Path

from foveal.sources.cards import ICDR
from foveal.sources.cells import check_cells, check_names, has_columns, read_grades, read_table
from foveal.sources.labelled import Labelled, graded
from foveal.sources.source import Source, SourceOptions, make_table, needed, patients_and_eyes, without_ending

COLUMNS = {"trainLabels.csv": ("image", "level"), "retinopathy_solution.csv": ("image", "level", "Usage")}


def recognise(root: Path) -> bool:
    """A folder with trainLabels.csv or retinopathy_solution.csv, with their columns."""
    return any(has_columns(root / name, columns) for name, columns in COLUMNS.items())


def load(root: Path, options: SourceOptions) -> Source:
    """Graded photographs with patient and eye; photographs without a grade are a pool."""
    files = needed([root / name for name in COLUMNS if (root / name).is_file()], root, "eyepacs")
    splits = ("train", "test") if len(files) == 2 else ("",)
    return graded(root, [_read(file, split) for file, split in zip(files, splits, strict=True)], ICDR)


def _read(file: Path, split: str) -> Labelled:
    rows = read_table(file, COLUMNS[file.name])
    names = [without_ending(name) for name in rows["image"]]
    grades = read_grades(names, rows["level"], len(ICDR), file)
    check_names(names, r"\d+_(left|right)", "17_left or 17_right (patient and eye)", file)
    patients, eyes = patients_and_eyes(names)
    flags: list[str] | str = ""
    if "Usage" in COLUMNS[file.name]:
        check_cells(names, rows["Usage"], "Usage", ("Public", "Private"), file)
        flags = list(rows["Usage"].str.lower())
    table = make_table(names, names, grades, split=split, group=patients, eye=eyes, flags=flags)
    return Labelled(table=file, folder=file.parent, rows=table)
