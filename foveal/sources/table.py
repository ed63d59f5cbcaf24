"""A table of labels with images: what a clinic has."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from statistics import median

import pandas as pd

from foveal.errors import FovealError
from foveal.page.words import counted
from foveal.sources.folder import TASKS, parts_note
from foveal.sources.labels import Labelled, add_pictures, pool_note, read_labels
from foveal.sources.matching import Matcher
from foveal.sources.names import EYE_NAMES, PARTS, is_missing, name_classes, part_of, patients_and_eyes, plain_number
from foveal.sources.source import Layout, Source, SourceOptions, keep_columns, list_pictures, make_table, without_ending
from foveal.sources.tables import TABLES, choose_column, find_table, known_set, read_rows, usual_columns

METADATA = "metadata.csv"


class Table(Layout[list[Path]]):
    """A CSV or Excel file of labels and a folder of images; pictures that it does not name are a pool.

    Columns are found by their usual names or by option. The table is given itself, or is the only one with labels in a
    folder or in a folder in it; train.csv and test.csv are two parts. An image folder with metadata.csv (column
    file_name), at its top or in train, validation and test, is read in the same way; the folders are then the split.
    """

    name = "table"

    def _find(self, root: Path) -> list[Path]:
        """The table itself, the one with labels in a folder, those of parts, or metadata.csv."""
        if root.suffix.lower() in TABLES and (file := find_table(root)):
            return [file]
        if not root.is_dir():
            return []
        if (root / METADATA).is_file():
            return [root / METADATA]
        if parts := [root / part / METADATA for part in PARTS if (root / part / METADATA).is_file()]:
            return parts
        for pattern in ("*", "*/*"):
            paths = sorted(path for path in root.glob(pattern) if path.suffix.lower() in TABLES and path.name[0] != ".")
            files = list(dict.fromkeys(file for path in paths if (file := find_table(path))))
            labelled = files if len(files) == 1 and pattern == "*" else [file for file in files if _has_labels(file)]
            if labelled:
                return _one_or_parts(labelled)
        return []

    def _read(self, root: Path, found: list[Path], options: SourceOptions) -> Source:
        try:
            folder, pictures = _pictures_of(root, found)
        except FovealError:
            for file in found:  # a table without labels needs no pictures to be refused
                choose_column(read_rows(file), options.label_column, "label", file)
            raise
        parts, used = zip(*(_part(file, folder, pictures, options, len(found) > 1) for file in found), strict=True)
        texts = pd.concat([part.rows["text"] for part in parts])
        numbers, classes, scale, note = name_classes({text for text in texts if text}, options.scale)
        if scale == "none" and options.scale != "none":
            _check_classes(found[0], Counter(text for text in texts if text))
        for part in parts:
            part.rows["label"] = pd.Series([numbers.get(text) for text in part.rows.pop("text")], dtype="Int64")
        table, pool = add_pictures(folder, parts, pictures)
        named = table.index < len(table) - pool
        table.loc[~named, "group"] = _patients_of_pool(table[named], table[~named])
        notes = (*used, note, _labels_note(table[named]), parts_note(list(table["split"])), pool_note(pool))
        return Source(root=folder, table=table, classes=classes, scale=scale, task=TASKS[scale], notes=notes)


def _part(
    file: Path, folder: Path, pictures: list[Path], options: SourceOptions, several: bool
) -> tuple[Labelled, str]:
    """One file, whose labels are still text in a column `text`, and a note on the columns used."""
    rows = read_rows(file)
    image = choose_column(rows, options.image_column, "image", file)
    label = "" if options.unlabelled < 0 else choose_column(rows, options.label_column, "label", file)
    group = _optional(rows, options.group_column, "group", file)
    split = "" if options.split_column is None else choose_column(rows, options.split_column, "split", file)
    eye = next((name for name in usual_columns(rows, "eye") if any(map(_eye, rows[name]))), "")
    within = file.parent == folder or any(path.is_relative_to(file.parent) for path in pictures)
    place = file.parent if within else folder
    part = place.relative_to(folder)  # the folder of this part of an image folder; otherwise "."
    empty = [f"row {row}" for row, name in enumerate(rows[image], 2) if is_missing(name)]
    if empty:
        what = f"{file} names no picture in {len(empty)} rows: {', '.join(empty[:5])}"
        raise FovealError("table.image_name", what, fix=f"fill the column {image}, or delete these rows")
    names = Matcher(pictures, place).relative(list(rows[image]))
    ids = [(part / without_ending(name)).as_posix() for name in names]
    cells = {f"row {row}": cell for row, cell in enumerate(rows[label] if label else [""] * len(rows), 2)}
    text, flags = read_labels(cells, file, options.scale)
    patients, eyes = patients_and_eyes(ids)
    if group:
        patients = ["" if is_missing(cell) else plain_number(cell) for cell in rows[group]]
    if eye:
        eyes = [_eye(cell) or known for cell, known in zip(rows[eye], eyes, strict=True)]
    whole = part_of(file.stem if several and not part.name else part.name)
    splits = rows[split].str.lower() if split else [whole] * len(rows)
    table = make_table(
        ids, names, split=[PARTS.get(split, split) for split in splits], eye=eyes, group=patients, flags=flags
    )
    used = [column for column in (image, label, group, split, eye) if column]
    table = keep_columns(table.assign(text=text), rows.drop(columns=used))
    known = f"patients from column '{group}'" if group else "patients from the names" if any(patients) else ""
    about = [f"images from column '{image}'", f"labels from column '{label}'" if label else "", known]
    about += [f"eyes from column '{eye}'" if eye else ""]
    known_as = known_set(file, map(str, rows))
    note = f"{file.name}: {', '.join(filter(None, about))}" + (f"; {known_as}" if known_as else "")
    return Labelled(table=file, folder=place, rows=table), note


def _optional(rows: pd.DataFrame, asked: str | None, what: str, file: Path) -> str:
    """A column that need not be there: the one asked for, otherwise the first with a usual name and something in it."""
    if asked is not None:
        return choose_column(rows, asked, what, file)
    filled = (name for name in usual_columns(rows, what) if not all(map(is_missing, rows[name])))
    return next(filled, "")


def _eye(cell: str) -> str:
    return EYE_NAMES.get(cell.lower().replace(".", "").replace("_", " "), "")


def _patients_of_pool(named: pd.DataFrame, pool: pd.DataFrame) -> list[str]:
    """The patient of each picture that no table names: the one whom the table gives to equal names, such as 17_left."""
    patients, _ = patients_and_eyes(list(named["id"]))
    given = {name: group for name, group in zip(patients, named["group"], strict=True) if name and group}
    by_names = all(name == group for name, group in zip(patients, named["group"], strict=True))
    return [given.get(name, name if by_names else "") for name in pool["group"]]


def _labels_note(table: pd.DataFrame) -> str:
    """A note on rows without a label; empty where all have one."""
    ungradable = int((table["flags"] == "ungradable").sum())
    without = int(table["label"].isna().sum()) - ungradable
    found = [f"{counted(without, 'row')} without a label" if without else ""]
    return "; ".join(filter(None, [*found, f"{counted(ungradable, 'row')} ungradable" if ungradable else ""]))


def _check_classes(file: Path, counts: Counter[str]) -> None:
    """FovealError where the labels of a table are hardly classes, since most of them occur once or twice."""
    if len(counts) > 10 and median(counts.values()) <= 2:
        what = (
            f"{file} has {len(counts)} different labels in {counts.total()} rows, such as {', '.join(list(counts)[:3])}"
        )
        fix = "name the column of the labels with --label-column, or give --scale none if they are classes"
        raise FovealError("label.classes", what, fix=fix)


def _has_labels(file: Path) -> bool:
    try:
        rows = read_rows(file)
    except FovealError:
        return False
    return bool(usual_columns(rows, "image") and usual_columns(rows, "label"))


def _one_or_parts(files: list[Path]) -> list[Path]:
    if len(files) > 1 and not all(part_of(file.stem) for file in files):
        listed = ", ".join(str(file) for file in files)
        raise FovealError(
            "table.several", f"several tables have labels: {listed}", fix="give one of them as the source"
        )
    return files


def _pictures_of(root: Path, files: list[Path]) -> tuple[Path, list[Path]]:
    """The folder and its pictures: below a table that was given, or beside the folder that it is in."""
    if root.is_dir() and root.suffix.lower() not in TABLES:
        return root, list_pictures(root)
    try:
        return root.parent, list_pictures(root.parent)
    except FovealError as error:
        if len(files) == 1:
            with suppress(FovealError):
                return root.parent.parent, list_pictures(root.parent.parent)
        raise error
