"""IDRiD, part B (disease grading): photographs of a clinic in Nanded, India, graded 0-4, with an official test part.

As published, in `B. Disease Grading`: `1. Original Images/a. Training Set` and `b. Testing Set` with IDRiD_001.jpg …,
and `2. Groundtruths/a. IDRiD_Disease Grading_Training Labels.csv` and `b. IDRiD_Disease Grading_Testing Labels.csv`
(Image name, Retinopathy grade, Risk of macular edema). `root` is that folder or one above it; the tables may also
lie beside the two picture folders, and any character may replace each space.
Traps: names start again at IDRiD_001 in the testing set, so ids say which part they belong to; the training table has
nine empty columns; names of columns end in a space. There are no patients.
"""

from __future__ import annotations

from pathlib import Path

from foveal.errors import FovealError
from foveal.sources.cards import ICDR
from foveal.sources.cells import read_grades, read_table
from foveal.sources.labelled import Labelled, graded
from foveal.sources.source import Source, SourceOptions, keep_columns, locate, make_table, needed, without_ending

COLUMNS = ("Image name", "Retinopathy grade")
PARTS = {"train": "Training", "test": "Testing"}


def recognise(root: Path) -> bool:
    """A folder with one of the two tables in it, or up to two folders below."""
    return bool(_label_files(root))


def load(root: Path, options: SourceOptions) -> Source:
    """Both official parts, or the one whose table exists."""
    files = needed(_label_files(root), root, "idrid")
    base = next(iter(files.values())).parent
    base = base.parent if base.name.endswith("Groundtruths") else base
    return graded(base, [_read(file, split, _picture_folder(base, split)) for split, file in files.items()], ICDR)


def _label_files(root: Path) -> dict[str, Path]:
    found = {split: locate(root, f"*IDRiD_Disease?Grading_{part}?Labels.csv") for split, part in PARTS.items()}
    return {split: file for split, file in found.items() if file is not None}


def _picture_folder(base: Path, split: str) -> Path:
    folder = locate(base, f"*{PARTS[split]}?Set")
    if folder is None:
        name = f"{'a' if split == 'train' else 'b'}. {PARTS[split]} Set"
        raise FovealError("source.missing_folder", f"{base} has no folder '{name}'")
    return folder


def _read(file: Path, split: str, folder: Path) -> Labelled:
    rows = read_table(file, COLUMNS)
    names = [without_ending(name) for name in rows["Image name"]]
    grades = read_grades(names, rows["Retinopathy grade"], len(ICDR), file)
    table = make_table([f"{split}/{name}" for name in names], names, grades, split=split)
    return Labelled(table=file, folder=folder, rows=keep_columns(table, rows, COLUMNS))
