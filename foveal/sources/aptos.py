"""APTOS 2019 Blindness Detection (Kaggle): photographs of Aravind Eye Hospital in India, graded 0-4.

As published: train.csv (id_code, diagnosis) with train_images/ID.png, and test.csv (id_code only) with test_images/,
whose grades were never published: they are a pool. Re-packs on Kaggle divide train.csv into train_1.csv, valid.csv and
test.csv, all with both columns; their split is kept. Pictures may lie in any folder below.
Traps: there are no patients; many photographs appear twice, some of them with different grades.
"""

from __future__ import annotations

import re
from pathlib import Path

from foveal.sources.cards import ICDR
from foveal.sources.cells import has_columns, read_grades, read_rows, read_table
from foveal.sources.labelled import Labelled, graded
from foveal.sources.source import Source, SourceOptions, make_table, needed, without_ending

COLUMNS = ("id_code", "diagnosis")
REPACKED = {"train_1.csv": "train", "valid.csv": "val", "test.csv": "test"}


def recognise(root: Path) -> bool:
    """A folder with train.csv (or train_1.csv) whose columns and ids are those of APTOS: 12 hexadecimal digits."""
    file = next((root / name for name in ("train_1.csv", "train.csv") if has_columns(root / name, COLUMNS)), None)
    return file is not None and all(re.fullmatch(r"[0-9a-f]{12}", name) for name in read_rows(file)["id_code"].head())


def load(root: Path, options: SourceOptions) -> Source:
    """Graded photographs, with the split of a re-pack; all others are a pool."""
    files = needed(_label_files(root), root, "aptos2019")
    return graded(root, [_read(file, split) for file, split in files.items()], ICDR)


def _label_files(root: Path) -> dict[Path, str]:
    """The graded tables and their split; "" for the published one, whose test part has no grades."""
    if (root / "train_1.csv").is_file():
        files = {root / name: split for name, split in REPACKED.items() if (root / name).is_file()}
        return {file: split for file, split in files.items() if split != "test" or has_columns(file, COLUMNS)}
    return {root / "train.csv": ""} if (root / "train.csv").is_file() else {}


def _read(file: Path, split: str) -> Labelled:
    rows = read_table(file, COLUMNS)
    names = [without_ending(name) for name in rows["id_code"]]
    grades = read_grades(names, rows["diagnosis"], len(ICDR), file)
    return Labelled(table=file, folder=file.parent, rows=make_table(names, names, grades, split=split))
