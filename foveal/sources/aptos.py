"""APTOS 2019 Blindness Detection (Kaggle): photographs of Aravind Eye Hospital in India, graded 0-4.

As published: train.csv (id_code, diagnosis) with train_images/ID.png, and test.csv (id_code alone) with test_images/,
whose grades were never given out: they are a pool. Re-packs on Kaggle cut train.csv into train_1.csv, valid.csv and
test.csv, all with both columns; their split is kept. Pictures may lie in any folder below.
Traps: there are no patients in it; many photographs stand in it twice, some of them with different grades.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from foveal.sources.cards import ICDR
from foveal.sources.source import Source, SourceOptions, add_pictures, make_table, pool_note, unmet
from foveal.sources.table import has_columns, read_grades, read_rows, require_columns, without_ending

COLUMNS = ("id_code", "diagnosis")
REPACKED = {"train_1.csv": "train", "valid.csv": "val", "test.csv": "test"}


def recognise(root: Path) -> bool:
    """A folder with train.csv (or train_1.csv) whose columns and ids are those of APTOS: 12 hexadecimal digits."""
    file = next((root / name for name in ("train_1.csv", "train.csv") if has_columns(root / name, COLUMNS)), None)
    return file is not None and all(re.fullmatch(r"[0-9a-f]{12}", name) for name in read_rows(file)["id_code"].head())


def load(root: Path, options: SourceOptions) -> Source:
    """Graded photographs with their grade, and the split of a re-pack; all others are a pool."""
    parts = _label_files(root)
    if not parts:
        raise unmet(root, "aptos2019")
    table, pool = add_pictures(root, [(root, _read(file, split)) for file, split in parts.items()])
    notes = (f"grades from {', '.join(file.name for file in parts)}", pool_note(pool))
    return Source(root=root, table=table, classes=ICDR, notes=notes)


def _label_files(root: Path) -> dict[Path, str]:
    """The graded tables and their split; "" for the published one, whose test part has no grades."""
    if (root / "train_1.csv").is_file():
        files = {root / name: split for name, split in REPACKED.items() if (root / name).is_file()}
        return {file: split for file, split in files.items() if split != "test" or has_columns(file, COLUMNS)}
    return {root / "train.csv": ""} if (root / "train.csv").is_file() else {}


def _read(file: Path, split: str) -> pd.DataFrame:
    rows = require_columns(read_rows(file), COLUMNS, file)
    names = [without_ending(name) for name in rows["id_code"]]
    grades = read_grades(names, rows["diagnosis"], len(ICDR), file)
    return make_table(names, names, grades, [split] * len(names))
