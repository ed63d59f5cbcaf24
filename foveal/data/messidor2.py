"""Messidor-2 as published: a folder of photographs and Google's adjudicated grades, `messidor_data.csv`.

The table names .png and .jpg files whose endings and case differ on disk, so rows are matched by stem. Ungradable
photographs have empty cells. There is no patient table in it: with ADCIS's `messidor-2.csv` (left;right) beside
it, pairs make the groups; without it, all `_PP` photographs of a date and all `IM` photographs of a block of a
hundred numbers are kept together, which is coarser than patients and therefore safe.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from foveal.data.cards import ICDR
from foveal.data.source import Source, SourceOptions, list_pictures, make_table
from foveal.data.table import match_pictures

LABELS = "messidor_data.csv"
HEADER = ("image_id", "adjudicated_dr_grade", "adjudicated_dme", "adjudicated_gradable")


def recognise(root: Path) -> bool:
    """A folder with messidor_data.csv."""
    return (root / LABELS).is_file()


def load(root: Path, options: SourceOptions) -> Source:
    """Graded photographs with their grade; photographs that the table does not grade are a pool."""
    if not recognise(root):
        raise ValueError(f"{root}: Messidor-2 needs {LABELS} (columns {', '.join(HEADER)}) and a folder of photographs")
    rows = pd.read_csv(root / LABELS, dtype=str, keep_default_na=False)
    missing = [column for column in HEADER if column not in rows]
    if missing:
        raise ValueError(f"{root / LABELS}: missing column {', '.join(missing)}; found {', '.join(rows.columns)}")
    gradable = rows[rows["adjudicated_gradable"].str.strip() == "1"]
    wrong = gradable[~gradable["adjudicated_dr_grade"].str.strip().isin(list("01234"))]
    if len(wrong):
        raise ValueError(
            f"{root / LABELS}: grade '{wrong['adjudicated_dr_grade'].iloc[0]}' of {wrong['image_id'].iloc[0]} "
            "is not in the card's classes 0-4"
        )
    ungradable = set(rows["image_id"][rows["adjudicated_gradable"].str.strip() != "1"].map(_stem))
    files, rest = match_pictures(gradable["image_id"].str.strip(), list_pictures(root), root)
    pool = [path for path in rest if path.stem.lower() not in ungradable]
    stems = [Path(name).stem for name in gradable["image_id"].str.strip()] + [path.stem for path in pool]
    labels: list[int | None] = [int(grade) for grade in gradable["adjudicated_dr_grade"]]
    table = make_table(
        stems,
        files + [path.relative_to(root).as_posix() for path in pool],
        labels + [None] * len(pool),
        groups=_groups(root, stems),
    )
    notes = (f"{len(ungradable)} photographs marked ungradable are left out", f"{len(pool)} have no grade: a pool")
    return Source(root=root, table=table, classes=ICDR, notes=notes)


def _stem(name: str) -> str:
    return Path(name.strip()).stem.lower()


def _groups(root: Path, stems: list[str]) -> list[str]:
    pairs = _pairs(root / "messidor-2.csv")
    return [pairs.get(stem.lower()) or group_of(stem) for stem in stems]


def _pairs(file: Path) -> dict[str, str]:
    """Stem -> examination, from ADCIS's table of left;right."""
    if not file.is_file():
        return {}
    rows = pd.read_csv(file, sep=";", dtype=str, keep_default_na=False)
    if not {"left", "right"} <= set(rows.columns):
        raise ValueError(f"{file}: expected columns left;right, found {', '.join(rows.columns)}")
    return {
        _stem(name): _stem(left)
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
