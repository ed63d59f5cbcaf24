"""DDR, grading: photographs of many Chinese hospitals, graded 0-4, with an official split.

As published, in `DR_grading`: train.txt, valid.txt and test.txt with lines `007-0004-000.jpg 2` (no header), and
photographs in folders of the same names. `root` is that folder or one above it.
Traps: label 5 is no grade but "ungradable": those photographs get the flag `ungradable` and no label; the backgrounds
of some are nearly black only. There are no patients in it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from foveal.sources.cards import ICDR
from foveal.sources.source import Source, SourceOptions, add_pictures, locate, make_table, pool_note, unmet
from foveal.sources.table import flag_ungradable, read_grades, without_ending

PARTS = {"train": "train", "valid": "val", "test": "test"}
LINE = re.compile(r"(?P<name>.+\.\w+)\s+(?P<label>\d+)")
UNGRADABLE = "5"


def recognise(root: Path) -> bool:
    """A folder with train.txt, valid.txt or test.txt that begin as those of DDR do; or DR_grading, up to two below."""
    files = _lists(root)
    return bool(files) and all(LINE.fullmatch(_lines(file)[0]) for file in files if _lines(file))


def load(root: Path, options: SourceOptions) -> Source:
    """The official parts, as far as they are there."""
    files = _lists(root)
    if not files:
        raise unmet(root, "ddr")
    base = files[0].parent
    table, pool = add_pictures(base, [(base / file.stem, _read(file)) for file in files])
    ungradable = int((table["flags"] == "ungradable").sum())
    notes = (
        f"grades from {', '.join(str(file.relative_to(root)) for file in files)}",
        f"{ungradable} photographs with label {UNGRADABLE} have no grade (flag ungradable)",
        pool_note(pool),
    )
    return Source(root=base, table=table, classes=ICDR, notes=notes)


def _lists(root: Path) -> list[Path]:
    """The lists of the parts, in `root` or in the folder DR_grading below it."""
    for base in (root, locate(root, "DR_grading")):
        files = [base / f"{part}.txt" for part in PARTS if (base / f"{part}.txt").is_file()] if base else []
        if files:
            return files
    return []


def _lines(file: Path) -> list[str]:
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _read(file: Path) -> pd.DataFrame:
    names, labels = [], []
    for line in _lines(file):
        match = LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{file}: expected lines 'name.jpg label', found '{line}'")
        names.append(match["name"])
        labels.append(match["label"])
    grades = read_grades(names, labels, len(ICDR), file, UNGRADABLE)
    ids = [f"{file.stem}/{without_ending(name)}" for name in names]
    return make_table(ids, names, grades, [PARTS[file.stem]] * len(names), flags=flag_ungradable(grades))
