"""DDR, grading: photographs of many Chinese hospitals, graded 0-4, with an official split.

As published, in `DR_grading`: train.txt, valid.txt and test.txt with lines `007-0004-000.jpg 2` (no header), and
photographs in folders of the same names. `root` is that folder or one above it.
Traps: label 5 is not a grade but "ungradable": those photographs get the flag `ungradable` and no label; the background
of some is not quite black. There are no patients.
"""

from __future__ import annotations

import re
from pathlib import Path

from foveal.errors import FovealError
from foveal.sources.cards import ICDR
from foveal.sources.cells import flag_ungradable, read_grades
from foveal.sources.labelled import Labelled, graded
from foveal.sources.source import Source, SourceOptions, locate, make_table, needed, without_ending

PARTS = {"train": "train", "valid": "val", "test": "test"}
LINE = re.compile(r"(?P<name>.+\.\w+)\s+(?P<label>[0-5])")
UNGRADABLE = "5"


def recognise(root: Path) -> bool:
    """A folder with train.txt, valid.txt or test.txt in DDR's format, or with DR_grading up to two folders below."""
    files = _lists(root)
    return bool(files) and all(LINE.fullmatch(line) for file in files for _, line in _lines(file)[:1])


def load(root: Path, options: SourceOptions) -> Source:
    """The official parts that exist in `root`."""
    files = needed(_lists(root), root, "ddr")
    return graded(files[0].parent, [_read(file) for file in files], ICDR)


def _lists(root: Path) -> list[Path]:
    """The lists of the parts, in `root` or in the folder DR_grading below it."""
    for base in (root, locate(root, "DR_grading")):
        files = [base / f"{part}.txt" for part in PARTS if (base / f"{part}.txt").is_file()] if base else []
        if files:
            return files
    return []


def _lines(file: Path) -> list[tuple[int, str]]:
    """Line number and text, without empty lines."""
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


def _read(file: Path) -> Labelled:
    names, labels = [], []
    for number, line in _lines(file):
        match = LINE.fullmatch(line)
        if match is None:
            what = f"{file}, row {number}: '{line}' is not a file name and a label"
            raise FovealError("table.row", what, expected="rows such as '007-0004-000.jpg 2', with labels 0-5")
        names.append(match["name"])
        labels.append(match["label"])
    grades = read_grades(names, labels, len(ICDR), file, UNGRADABLE)
    ids = [f"{file.stem}/{without_ending(name)}" for name in names]
    table = make_table(ids, names, grades, split=PARTS[file.stem], flags=flag_ungradable(grades))
    return Labelled(table=file, folder=file.with_suffix(""), rows=table, first_row=1)
