"""A CSV of labels and a folder of images, matched by name; pictures that the table does not name are a pool.

Columns are found by their usual names or by option. An image folder with metadata.csv (column file_name), at its top
or in train, validation and test, is read in the same way; the folders are then the split.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from foveal.errors import FovealError
from foveal.sources.cells import plain_numbers, read_rows
from foveal.sources.folder import PARTS, task_of
from foveal.sources.labelled import Labelled, add_pictures, pool_note
from foveal.sources.source import (
    Source,
    SourceOptions,
    keep_columns,
    make_table,
    name_classes,
    needed,
    patients_and_eyes,
    without_ending,
)

IMAGE_COLUMNS = ("image", "image_id", "id_code", "file", "filename", "file_name", "id", "image name", "name")
LABEL_COLUMNS = ("label", "grade", "diagnosis", "level", "class", "dr_grade", "retinopathy grade", "retinopathy_grade")
METADATA = "metadata.csv"


def recognise(root: Path) -> bool:
    """A CSV file, a folder that has exactly one CSV at its top, or an image folder with metadata.csv."""
    return bool(_find(root))


def load(root: Path, options: SourceOptions) -> Source:
    """Match each row of the table to a picture, by its path or by its name; see `add_pictures`."""
    files = needed(_find(root), root, "table")
    folder = root if root.is_dir() else root.parent
    parts, read = zip(*(_read(file, folder, options) for file in files), strict=True)
    values, classes, scale, note = name_classes({value for part in parts for value in part.rows["text"] if value})
    numbers = {value: number for number, value in enumerate(values)}
    for part in parts:
        part.rows["label"] = pd.Series([numbers.get(value) for value in part.rows.pop("text")], dtype="Int64")
    table, pool = add_pictures(folder, parts)
    if options.group_column:  # where a column says who the patient is, file names do not
        table.loc[len(table) - pool :, "group"] = ""
    notes = (*read, note, pool_note(pool))
    return Source(root=folder, table=table, classes=classes, scale=scale, task=task_of(scale), notes=notes)


def _find(root: Path) -> list[Path]:
    """The label files at `root`; none where this is not a table source."""
    if root.is_file():
        return [root] if root.suffix.lower() == ".csv" else []
    if (root / METADATA).is_file():
        return [root / METADATA]
    parts = [root / part / METADATA for part in PARTS if (root / part / METADATA).is_file()]
    found = [file for file in root.glob("*.csv") if not file.name.startswith(".")]
    return parts or (found if len(found) == 1 else [])


def _read(file: Path, folder: Path, options: SourceOptions) -> tuple[Labelled, str]:
    """One file, whose labels are still text in a column `text`, and a note on the columns used."""
    rows = read_rows(file)
    image = _choose_column(rows, options.image_column, IMAGE_COLUMNS, "image", file)
    label = _choose_column(rows, options.label_column, LABEL_COLUMNS, "label", file)
    for name, what in ((options.group_column, "group"), (options.split_column, "split")):
        if name is not None:
            _choose_column(rows, name, (), what, file)
    part = file.parent.relative_to(folder)  # the folder of this part of an image folder; otherwise "."
    ids = [(part / without_ending(name)).as_posix() for name in rows[image]]
    patients, eyes = patients_and_eyes(ids)
    splits = rows[options.split_column].str.lower() if options.split_column else [part.name] * len(rows)
    table = make_table(
        ids, list(rows[image]), split=[PARTS.get(split, split) for split in splits], eye=eyes,
        group=list(rows[options.group_column]) if options.group_column else patients,
    )  # fmt: skip
    used = filter(None, (image, label, options.group_column, options.split_column))
    table = keep_columns(table.assign(text=plain_numbers(rows[label])), rows, used)
    note = f"images from column '{image}', labels from column '{label}' of {file.relative_to(folder)}"
    return Labelled(table=file, folder=file.parent, rows=table), note


def _choose_column(rows: pd.DataFrame, asked: str | None, usual: tuple[str, ...], what: str, file: Path) -> str:
    """The column that holds `what`: the one asked for, otherwise the only one with a usual name."""
    matches = [column for column in rows.columns if column.lower() in usual] if asked is None else [asked]
    if len(matches) == 1 and matches[0] in rows:
        return matches[0]
    listed = ", ".join(f"'{column}'" for column in rows.columns)
    if asked is not None:
        problem = f"there is no column '{asked}' (--{what}-column)"
    else:
        problem = f"{len(matches) or 'no'} columns could hold the {what}"
    code = "table.ambiguous_column" if len(matches) > 1 else "table.missing_column"
    raise FovealError(code, f"{file}: {problem}; its columns are {listed}", fix=f"name it with --{what}-column")
