"""DeepDRiD (ISBI 2020), regular fundus photographs: four of each patient, two of each eye, graded 0-4.

As published, in `regular_fundus_images`: regular-fundus-training/regular-fundus-training.csv (patient_id, image_id,
image_path, Overall quality, left_eye_DR_Level, right_eye_DR_Level, …) with Images/1/1_l1.jpg …, the same for
validation, and Online-Challenge1&2-Evaluation with Images/ and Challenge1_labels.xlsx (image_id, DR_Levels; some
re-packs have it as .csv), which is the test part. `root` is that folder or one above it.
Traps: image_path has backslashes and lacks Images/, so pictures are matched by image_id. A row fills only the level of
its own eye. For patient 56 the names 56_r3 and 56_l3 contradict the columns: the level that is present is used, and
the eye is left empty (flag `eye-unclear`). Level 5 is not a grade but "ungradable". Overall quality 0 is poor and
becomes the flag `poor-quality`; the grade stays. The ultra-widefield part has other pictures under the same names and
is not read.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from foveal.sources.cards import ICDR
from foveal.sources.cells import check_names, flag_ungradable, plain_numbers, read_grades, read_table
from foveal.sources.labelled import Labelled, graded
from foveal.sources.source import Source, SourceOptions, locate, make_table, needed

COLUMNS = ("patient_id", "image_id", "Overall quality", "left_eye_DR_Level", "right_eye_DR_Level")
TABLES = {
    "regular-fundus-training/regular-fundus-training.csv": "train",
    "regular-fundus-validation/regular-fundus-validation.csv": "val",
}
TEST_COLUMNS = ("image_id", "DR_Levels")
TEST = "Online-Challenge1&2-Evaluation/Challenge1_labels"
UNGRADABLE = "5"


def recognise(root: Path) -> bool:
    """A folder with the training or the validation table in its place, or up to two folders below."""
    return _base(root) is not None


def load(root: Path, options: SourceOptions) -> Source:
    """The official parts that exist in `root`, with patient and eye."""
    base = needed(_base(root), root, "deepdrid")
    parts = [_read(base / name, split) for name, split in TABLES.items() if (base / name).is_file()]
    tests = [file for file in (base / f"{TEST}.csv", base / f"{TEST}.xlsx") if file.is_file()]
    return graded(base, [*parts, *map(_read_test, tests[:1])], ICDR)


def _base(root: Path) -> Path | None:
    """The folder regular_fundus_images."""
    found = (locate(root, name) for name in TABLES)
    return next((file.parents[1] for file in found if file is not None), None)


def _read(file: Path, split: str) -> Labelled:
    rows = read_table(file, COLUMNS)
    names = list(rows["image_id"])
    eyes = pd.Series(_named_eyes(names, file), dtype="object")
    left, right = rows["left_eye_DR_Level"], rows["right_eye_DR_Level"]
    own, other = left.where(eyes == "left", right), right.where(eyes == "left", left)
    wrong = (own == "") & (other != "")  # only the other eye has a level
    grades = read_grades(names, own.mask(wrong, other), len(ICDR), file, UNGRADABLE)
    poor = pd.Series(plain_numbers(rows["Overall quality"])) == "0"
    conditions = zip(flag_ungradable(grades), poor, wrong, strict=True)
    flags = [f"{first} {'poor-quality ' * low}{'eye-unclear' * unclear}".strip() for first, low, unclear in conditions]
    eye = list(eyes.mask(wrong, ""))
    table = make_table(names, names, grades, split=split, group=list(rows["patient_id"]), eye=eye, flags=flags)
    return Labelled(table=file, folder=file.parent, rows=table)


def _read_test(file: Path) -> Labelled:
    rows = read_table(file, TEST_COLUMNS)
    names = list(rows["image_id"])
    grades = read_grades(names, rows["DR_Levels"], len(ICDR), file, UNGRADABLE)
    eyes, flags = _named_eyes(names, file), flag_ungradable(grades)
    patients = [name.partition("_")[0] for name in names]
    table = make_table(names, names, grades, split="test", group=patients, eye=eyes, flags=flags)
    return Labelled(table=file, folder=file.parent, rows=table)


def _named_eyes(names: list[str], file: Path) -> list[str]:
    """Left and right, from names such as 1_l1 and 1_r2."""
    check_names(names, r"\d+_[lr]\d+", "1_l1 or 1_r2 (patient, eye, number)", file)
    return ["left" if "l" in name else "right" for name in names]
