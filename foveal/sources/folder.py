"""A folder of images, or a table of labels with images: what a clinic has."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from foveal.errors import FovealError
from foveal.page.words import counted
from foveal.sources.labels import Labelled, add_pictures, plain_numbers, pool_note, read_rows
from foveal.sources.source import (
    Layout,
    Source,
    SourceOptions,
    keep_columns,
    list_pictures,
    make_table,
    name_classes,
    patients_and_eyes,
    picture_ids,
    without_ending,
)

PARTS = {
    "train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "training": "train",
    "testing": "test",
}  # fmt: skip
USUAL = {
    "image": ("image", "image_id", "id_code", "file", "filename", "file_name", "id", "image name", "name"),
    "label": ("label", "grade", "diagnosis", "level", "class", "dr_grade", "retinopathy grade", "retinopathy_grade"),
}
METADATA = "metadata.csv"
TASKS = {"icdr": "grading", "none": "classification"}  # of classes on these scales


class Folder(Layout[Path]):
    """A folder per class, {train,val,test}/class, or a flat, unlabelled pool.

    The locations of the pictures show which one it is: pictures directly in the folder, or a single class folder, make
    an unlabelled pool. Any folder will do, so this layout is tried last.
    """

    name = "folder"

    def _find(self, root: Path) -> Path | None:
        return root if root.is_dir() else None

    def _read(self, root: Path, found: Path, options: SourceOptions) -> Source:
        files = list_pictures(root)
        paths, ids = [path.relative_to(root) for path in files], picture_ids(files, root)
        splits = [PARTS.get(path.parts[0].lower(), "") if len(path.parts) > 1 else "" for path in paths]
        in_parts = all(splits)
        folders = [path.parts[1 if in_parts else 0 : -1] for path in paths]
        names = [parts[0] if parts else "" for parts in folders]
        patients, eyes = patients_and_eyes(ids)
        table = make_table(ids, [path.as_posix() for path in paths], group=patients, eye=eyes)
        tables = ", ".join(sorted(file.name for file in root.glob("*.csv")))
        unused = f"not used: {tables}; to take labels from a table, give it as the source" if tables else ""
        if len({*names} - {""}) < 2:
            return Source(root=root, table=table, classes=(), task="none", notes=("an unlabelled pool", unused))
        values, classes, scale, note = name_classes({*names} - {""})
        labels = pd.Series([values.index(name) if name else None for name in names], dtype="Int64")
        table = table.assign(label=labels, split=splits if in_parts else "")
        outside = names.count("")
        stray = f"{counted(outside, 'picture')} outside the class folders: an unlabelled pool" if outside else ""
        notes = (f"a folder per class, in this order: {', '.join(values)}", note, stray, unused)
        return Source(root=root, table=table, classes=classes, scale=scale, task=TASKS[scale], notes=notes)


class Table(Layout[list[Path]]):
    """A CSV of labels and a folder of images, matched by path or name; pictures that it does not name are a pool.

    Columns are found by their usual names or by option. An image folder with metadata.csv (column file_name), at its
    top or in train, validation and test, is read in the same way; the folders are then the split.
    """

    name = "table"

    def _find(self, root: Path) -> list[Path]:
        """The CSV file, the only one at the top of a folder, or metadata.csv."""
        if root.is_file():
            return [root] if root.suffix.lower() == ".csv" else []
        if (root / METADATA).is_file():
            return [root / METADATA]
        parts = [root / part / METADATA for part in PARTS if (root / part / METADATA).is_file()]
        found = [file for file in root.glob("*.csv") if not file.name.startswith(".")]
        return parts or (found if len(found) == 1 else [])

    def _read(self, root: Path, found: list[Path], options: SourceOptions) -> Source:
        folder = root if root.is_dir() else root.parent
        parts, used = zip(*(self._part(file, folder, options) for file in found), strict=True)
        values, classes, scale, note = name_classes({value for part in parts for value in part.rows["text"] if value})
        numbers = {value: number for number, value in enumerate(values)}
        for part in parts:
            part.rows["label"] = pd.Series([numbers.get(value) for value in part.rows.pop("text")], dtype="Int64")
        table, pool = add_pictures(folder, parts)
        if options.group_column:  # where a column says who the patient is, file names do not
            table.loc[len(table) - pool :, "group"] = ""
        notes = (*used, note, pool_note(pool))
        return Source(root=folder, table=table, classes=classes, scale=scale, task=TASKS[scale], notes=notes)

    def _part(self, file: Path, folder: Path, options: SourceOptions) -> tuple[Labelled, str]:
        """One file, whose labels are still text in a column `text`, and a note on the columns used."""
        rows = read_rows(file)
        image = _choose_column(rows, options.image_column, "image", file)
        label = _choose_column(rows, options.label_column, "label", file)
        group = options.group_column and _choose_column(rows, options.group_column, "group", file)
        split = options.split_column and _choose_column(rows, options.split_column, "split", file)
        part = file.parent.relative_to(folder)  # the folder of this part of an image folder; otherwise "."
        ids = [(part / without_ending(name)).as_posix() for name in rows[image]]
        patients, eyes = patients_and_eyes(ids)
        splits = rows[split].str.lower() if split else [part.name] * len(rows)
        table = make_table(
            ids, list(rows[image]), split=[PARTS.get(split, split) for split in splits], eye=eyes,
            group=list(rows[group]) if group else patients,
        )  # fmt: skip
        used = [column for column in (image, label, group, split) if column]
        table = keep_columns(table.assign(text=plain_numbers(rows[label])), rows.drop(columns=used))
        note = f"images from column '{image}', labels from column '{label}' of {file.relative_to(folder)}"
        return Labelled(table=file, folder=file.parent, rows=table), note


def _choose_column(rows: pd.DataFrame, asked: str | None, what: str, file: Path) -> str:
    """The column that holds `what`: the one asked for, otherwise the only one with a usual name."""
    has = f"its columns are {', '.join(repr(column) for column in rows)}"
    if asked is not None:
        if asked not in rows:
            raise FovealError("table.missing_column", f"{file} has no column '{asked}' (--{what}-column); {has}")
        return asked
    matches = [column for column in map(str, rows) if column.lower() in USUAL[what]]
    if len(matches) != 1:
        code = "table.ambiguous_column" if matches else "table.missing_column"
        problem = f"{file}: {len(matches) or 'no'} columns could hold the {what}; {has}"
        raise FovealError(code, problem, fix=f"name it with --{what}-column")
    return matches[0]
