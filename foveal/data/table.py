"""A CSV of labels and a folder of images, matched by name; pictures that the table does not name are a pool."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from foveal.data.source import (
    Source,
    SourceOptions,
    list_pictures,
    make_table,
    name_classes,
    patients_and_eyes,
    picture_ids,
)

IMAGE_COLUMNS = ("image", "image_id", "id_code", "file", "filename", "file_name", "id", "image name", "name")
LABEL_COLUMNS = ("label", "grade", "diagnosis", "level", "class", "dr_grade", "retinopathy grade", "retinopathy_grade")


def recognise(root: Path) -> bool:
    """A CSV file, or a folder that has exactly one CSV at its top."""
    return (root.is_file() and root.suffix.lower() == ".csv") or (root.is_dir() and len(list(root.glob("*.csv"))) == 1)


def load(root: Path, options: SourceOptions) -> Source:
    """Match each row of the table to a picture, by path or by name without ending (case does not matter)."""
    if not recognise(root):
        raise ValueError(f"{root}: expected a .csv file, or a folder with exactly one at its top")
    file = root if root.is_file() else next(iter(root.glob("*.csv")))
    folder = file.parent
    rows = read_rows(file)
    image = choose_column(rows, options.image_column, IMAGE_COLUMNS, "image", file)
    label = choose_column(rows, options.label_column, LABEL_COLUMNS, "label", file)
    for name, what in ((options.group_column, "group"), (options.split_column, "split")):
        if name is not None:
            choose_column(rows, name, (), what, file)
    pictures = list_pictures(folder)
    named, rest = match_pictures(rows[image].str.strip(), pictures, folder)
    classes, shown, scale, note = name_classes({value for value in _clean(rows[label]) if value})
    labels: list[int | None] = [classes.index(value) if value else None for value in _clean(rows[label])]
    ids = [Path(name).with_suffix("").as_posix() if Path(name).suffix else name for name in rows[image].str.strip()]
    rest_ids = picture_ids(rest, folder)
    patients, eyes = patients_and_eyes(ids + rest_ids)
    groups = list(rows[options.group_column].str.strip()) + [""] * len(rest) if options.group_column else patients
    splits = list(rows[options.split_column].str.strip().str.lower()) if options.split_column else [""] * len(rows)
    files = named + [path.relative_to(folder).as_posix() for path in rest]
    table = make_table(ids + rest_ids, files, labels + [None] * len(rest), splits + [""] * len(rest), groups, eyes)
    notes = [f"images from column '{image}', labels from column '{label}' of {file.name}", note]
    if rest:
        notes.append(f"{len(rest)} pictures that the table does not name are an unlabelled pool")
    task = "grading" if scale != "none" else "classification"
    return Source(root=folder, table=table, classes=shown, scale=scale, task=task, notes=tuple(notes))


def read_rows(file: Path) -> pd.DataFrame:
    """All cells as text, with tidy column names; commas, semicolons and tabs, with or without a byte-order mark."""
    try:
        header = file.read_text(encoding="utf-8-sig").partition("\n")[0]
        separator = max(",;\t", key=header.count)
        rows = pd.read_csv(file, dtype=str, keep_default_na=False, sep=separator, encoding="utf-8-sig")
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read as a table: {error}") from error
    return rows.rename(columns=lambda name: str(name).strip())


def choose_column(rows: pd.DataFrame, asked: str | None, usual: tuple[str, ...], what: str, file: Path) -> str:
    """The column that holds `what`: the one asked for, or the only usual one; ValueError lists what there is."""
    found = ", ".join(f"'{column}'" for column in rows.columns)
    if asked is not None:
        if asked not in rows:
            raise ValueError(f"{file}: there is no column '{asked}' (--{what}-column); it has {found}")
        return asked
    matches = [column for column in rows.columns if column.lower() in usual]
    if len(matches) != 1:
        problem = "no column" if not matches else f"{len(matches)} columns"
        raise ValueError(f"{file}: {problem} could hold the {what}; name it with --{what}-column; it has {found}")
    return matches[0]


def match_pictures(names: pd.Series, pictures: list[Path], folder: Path) -> tuple[list[str], list[Path]]:
    """For each name, the path of its picture below `folder` (or the name itself when missing), and the pictures left.

    Raises ValueError when a name fits two pictures.
    """
    by_name: dict[str, list[Path]] = {}
    for path in pictures:
        relative = path.relative_to(folder)
        for key in {relative.as_posix(), relative.with_suffix("").as_posix(), path.name, path.stem}:
            by_name.setdefault(key.lower(), []).append(path)
    files, used = [], set()
    for name in names:
        hits = by_name.get(name.lower()) or by_name.get(Path(name).stem.lower(), [])
        if len(hits) > 1:
            raise ValueError(f"'{name}' fits several pictures: {', '.join(str(hit) for hit in hits[:3])}")
        used.update(hits)
        files.append(hits[0].relative_to(folder).as_posix() if hits else name)
    return files, [path for path in pictures if path not in used]


def _clean(values: pd.Series) -> list[str]:
    """Labels as text: '2.0' and ' 2' read as '2', an empty cell as ''."""
    return [re.sub(r"^(\d+)\.0+$", r"\1", value.strip()) for value in values]
