"""DeepDRiD (ISBI 2020), regular fundus photographs: four of each patient, two of each eye, graded 0-4.

As published, in `regular_fundus_images`: regular-fundus-training/regular-fundus-training.csv (patient_id, image_id,
image_path, Overall quality, left_eye_DR_Level, right_eye_DR_Level, …) with Images/1/1_l1.jpg …, the same for
validation, and Online-Challenge1&2-Evaluation with Images/ and Challenge1_labels.xlsx (image_id, DR_Levels; some
re-packs have it as .csv), which is the test part. `root` is that folder or one above it.
Traps: image_path has back-slashes and lacks Images/, so pictures are matched by image_id; a row fills the level of its
own eye alone; for patient 56 the names 56_r3 and 56_l3 contradict the columns: the level that is there is taken and the
eye left open (flag `eye-unclear`). Level 5 is no grade but "ungradable". Overall quality 0 is poor and becomes the flag
`poor-quality`; the grade stays. The ultra-widefield part has other pictures under the same names and is not read.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from foveal.sources.cards import ICDR
from foveal.sources.source import Source, SourceOptions, add_pictures, locate, make_table, pool_note, unmet
from foveal.sources.table import flag_ungradable, plain_numbers, read_grades, read_rows, read_sheet, require_columns

COLUMNS = ("patient_id", "image_id", "Overall quality", "left_eye_DR_Level", "right_eye_DR_Level")
TABLES = {
    "regular-fundus-training/regular-fundus-training.csv": "train",
    "regular-fundus-validation/regular-fundus-validation.csv": "val",
}
TEST_COLUMNS = ("image_id", "DR_Levels")
TEST = "Online-Challenge1&2-Evaluation/Challenge1_labels"
UNGRADABLE = "5"
FLAGS = ("ungradable", "poor-quality", "eye-unclear")
EYES = {"l": "left", "r": "right"}


def recognise(root: Path) -> bool:
    """A folder with the training or the validation table in its place, or up to two folders below."""
    return _base(root) is not None


def load(root: Path, options: SourceOptions) -> Source:
    """The official parts, as far as they are there, with patient and eye."""
    base = _base(root)
    if base is None:
        raise unmet(root, "deepdrid")
    files = {base / name: split for name, split in TABLES.items() if (base / name).is_file()}
    parts = [(file.parent, _read(file, split)) for file, split in files.items()]
    test = next((file for file in (base / f"{TEST}.csv", base / f"{TEST}.xlsx") if file.is_file()), None)
    if test is not None:
        parts.append((test.parent, _read_test(test)))
    table, pool = add_pictures(base, parts)
    counts = {flag: int(table["flags"].str.contains(flag).sum()) for flag in FLAGS}
    flagged = [f"{count} photographs have the flag {flag}" for flag, count in counts.items() if count]
    tables = [*files, test] if test else [*files]
    notes = (f"grades from {', '.join(file.name for file in tables)}", "; ".join(flagged), pool_note(pool))
    return Source(root=base, table=table, classes=ICDR, notes=notes)


def _base(root: Path) -> Path | None:
    """The folder regular_fundus_images."""
    found = (locate(root, name) for name in TABLES)
    return next((file.parents[1] for file in found if file is not None), None)


def _read(file: Path, split: str) -> pd.DataFrame:
    rows = require_columns(read_rows(file), COLUMNS, file)
    names = list(rows["image_id"])
    own = zip(_named_eyes(names, file), rows["left_eye_DR_Level"], rows["right_eye_DR_Level"], strict=True)
    eyes, levels = zip(*(_eye_and_level(*cells) for cells in own), strict=True) if names else ((), ())
    grades = read_grades(names, levels, len(ICDR), file, UNGRADABLE)
    conditions = zip(flag_ungradable(grades), plain_numbers(rows["Overall quality"]), eyes, strict=True)
    flags = [_words(first, quality == "0", not eye) for first, quality, eye in conditions]
    return make_table(names, names, grades, [split] * len(names), list(rows["patient_id"]), eyes, flags)


def _read_test(file: Path) -> pd.DataFrame:
    rows = read_rows(file) if file.suffix == ".csv" else read_sheet(file)
    rows = require_columns(rows, TEST_COLUMNS, file)
    names = list(rows["image_id"])
    grades = read_grades(names, rows["DR_Levels"], len(ICDR), file, UNGRADABLE)
    patients = [name.partition("_")[0] for name in names]
    eyes = _named_eyes(names, file)
    return make_table(names, names, grades, ["test"] * len(names), patients, eyes, flag_ungradable(grades))


def _named_eyes(names: list[str], file: Path) -> list[str]:
    """Left and right, from names such as 1_l1 and 1_r2."""
    matches = [re.fullmatch(r"\d+_([lr])\d+", name) for name in names]
    for name, match in zip(names, matches, strict=True):
        if match is None:
            raise ValueError(f"{file}: image_id '{name}' is not like 1_l1 or 1_r2: patient, eye, number")
    return [EYES[match[1]] for match in matches if match]


def _eye_and_level(named: str, left: str, right: str) -> tuple[str, str]:
    """The level of the eye in the name; where only the other eye has one, that level and no eye."""
    own, other = (left, right) if named == "left" else (right, left)
    return (named, own) if own or not other else ("", other)


def _words(ungradable: str, poor: bool, unclear: bool) -> str:
    words = (ungradable, "poor-quality" if poor else "", "eye-unclear" if unclear else "")
    return " ".join(filter(None, words))
