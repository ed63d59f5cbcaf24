"""A CSV of labels and a folder of images, matched by name; pictures that the table does not name are a pool.

Columns are found by their usual names or by option. An image folder with metadata.csv (column file_name), at its top
or in train, validation and test, is read in the same way; the folders are the split. Below: how all sources that
have a table read it, by the names of its columns and never by their position.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from foveal.sources.folder import PARTS
from foveal.sources.source import (
    PICTURES,
    Source,
    SourceOptions,
    add_pictures,
    keep_columns,
    make_table,
    name_classes,
    patients_and_eyes,
    pool_note,
    unmet,
)

IMAGE_COLUMNS = ("image", "image_id", "id_code", "file", "filename", "file_name", "id", "image name", "name")
LABEL_COLUMNS = ("label", "grade", "diagnosis", "level", "class", "dr_grade", "retinopathy grade", "retinopathy_grade")
METADATA = "metadata.csv"


def recognise(root: Path) -> bool:
    """A CSV file, a folder that has exactly one CSV at its top, or an image folder with metadata.csv."""
    return bool(_find(root))


def load(root: Path, options: SourceOptions) -> Source:
    """Match each row of the table to a picture, by path or by name without ending (case does not matter)."""
    files = _find(root)
    if not files:
        raise unmet(root, "table")
    folder = root if root.is_dir() else root.parent
    parts = [(file.parent, *_read_part(file, folder, options)) for file in files]
    classes, shown, scale, note = name_classes({value for _, part, _ in parts for value in part["label"] if value})
    numbers = {value: number for number, value in enumerate(classes)}
    for _, part, _ in parts:
        part["label"] = pd.Series([numbers.get(value) for value in part["label"]], dtype="Int64")
    table, pool = add_pictures(folder, [(place, part) for place, part, _ in parts])
    if options.group_column:  # where a column says who is who, a name does not
        table.loc[len(table) - pool :, "group"] = ""
    task = "grading" if scale != "none" else "classification"
    notes = (*(read for _, _, read in parts), note, pool_note(pool))
    return Source(root=folder, table=table, classes=shown, scale=scale, task=task, notes=notes)


def _find(root: Path) -> list[Path]:
    """The label files at `root`; none when it is no such source."""
    if root.is_file():
        return [root] if root.suffix.lower() == ".csv" else []
    if (root / METADATA).is_file():
        return [root / METADATA]
    parts = [root / part / METADATA for part in PARTS if (root / part / METADATA).is_file()]
    found = [file for file in root.glob("*.csv") if not file.name.startswith(".")]
    return parts or (found if len(found) == 1 else [])


def _read_part(file: Path, folder: Path, options: SourceOptions) -> tuple[pd.DataFrame, str]:
    """The table of one file, with labels still as text, and a note on its columns."""
    rows = read_rows(file)
    image = choose_column(rows, options.image_column, IMAGE_COLUMNS, "image", file)
    label = choose_column(rows, options.label_column, LABEL_COLUMNS, "label", file)
    for name, what in ((options.group_column, "group"), (options.split_column, "split")):
        if name is not None:
            choose_column(rows, name, (), what, file)
    below = file.parent.relative_to(folder)  # the part's own folder, where there is one
    ids = [(below / without_ending(name)).as_posix() for name in rows[image]]
    patients, eyes = patients_and_eyes(ids)
    groups = list(rows[options.group_column]) if options.group_column else patients
    said = rows[options.split_column].str.lower() if options.split_column else [below.name] * len(rows)
    splits = [PARTS.get(part, part) for part in said]
    part = make_table(ids, list(rows[image]), [None] * len(rows), splits, groups, eyes)
    read = f"images from column '{image}', labels from column '{label}' of {file.relative_to(folder)}"
    used = (image, label, options.group_column, options.split_column)
    return keep_columns(part.assign(label=plain_numbers(rows[label])), rows, filter(None, used)), read


def read_rows(file: Path) -> pd.DataFrame:
    """All cells as text without spaces around it, and so the names of the columns.

    Commas, semicolons and tabs; UTF-8 with or without a byte-order mark, or what Excel writes in western Europe.
    """
    try:
        header, encoding = _read_header(file)
        separator = max(",;\t", key=header.count)
        rows = pd.read_csv(file, dtype=str, keep_default_na=False, sep=separator, encoding=encoding)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} cannot be read as a table: {error}") from error
    if not isinstance(rows.index, pd.RangeIndex):  # pandas takes the surplus for an index and moves all columns
        raise ValueError(f"{file}: its rows have more cells than its first line has names")
    return _tidy(rows, file)


def _read_header(file: Path) -> tuple[str, str]:
    """The first line and the encoding."""
    data = file.read_bytes()
    try:
        return data.decode("utf-8-sig").partition("\n")[0], "utf-8-sig"
    except UnicodeDecodeError:
        return data.decode("cp1252").partition("\n")[0], "cp1252"


def read_sheet(file: Path) -> pd.DataFrame:
    """The first sheet of an Excel file, .xls or .xlsx, as `read_rows` would give it."""
    try:
        from python_calamine import CalamineError, CalamineWorkbook
    except ImportError as error:
        raise ValueError(f"{file}: reading {file.suffix} needs python-calamine: pip install 'foveal[excel]'") from error
    try:
        cells = CalamineWorkbook.from_path(file).get_sheet_by_index(0).to_python()
    except (CalamineError, OSError) as error:
        raise ValueError(f"{file} cannot be read as an Excel file: {error}") from error
    header, *rows = [[str(cell) for cell in row] for row in cells] or [[]]
    return _tidy(pd.DataFrame(rows, columns=header, dtype=str), file)


def _tidy(rows: pd.DataFrame, file: Path) -> pd.DataFrame:
    rows = rows.rename(columns=lambda name: str(name).strip())
    twice = rows.columns[rows.columns.duplicated()]
    if len(twice):
        raise ValueError(f"{file}: column '{twice[0]}' stands there twice")
    return pd.DataFrame({name: rows[name].str.strip() for name in rows.columns})


def has_columns(file: Path, columns: Iterable[str]) -> bool:
    """Whether `file` is there and its first line names these columns."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        header = stream.readline().decode("utf-8-sig", errors="replace")
    return set(columns) <= {name.strip().strip('"').strip() for name in re.split("[,;\t]", header)}


def require_columns(rows: pd.DataFrame, columns: Iterable[str], file: Path) -> pd.DataFrame:
    """`rows`, when it has these columns; ValueError names those that are missing and what there is."""
    missing = [column for column in columns if column not in rows]
    if missing:
        raise ValueError(f"{file}: missing column {', '.join(missing)}; found {', '.join(rows.columns)}")
    return rows


def read_grades(
    names: Sequence[str], cells: Iterable[str], count: int, file: Path, ungradable: str | None = None
) -> list[int | None]:
    """Grades 0 … count - 1 as numbers, None for cells that read `ungradable`.

    Raises ValueError with the name of the first image that has another grade, or none.
    """
    grades = plain_numbers(cells)
    numbers: dict[str, int | None] = {str(grade): grade for grade in range(count)}
    if ungradable is not None:
        numbers[ungradable] = None
    for name, grade in zip(names, grades, strict=True):
        if grade not in numbers:
            raise ValueError(f"{file}: grade '{grade}' of {name} is not in the card's classes 0-{count - 1}")
    return [numbers[grade] for grade in grades]


def flag_ungradable(grades: Iterable[int | None]) -> list[str]:
    """The flag `ungradable` for each None."""
    return ["ungradable" if grade is None else "" for grade in grades]


def plain_numbers(cells: Iterable[str]) -> list[str]:
    """Cells as text: '2.0' and ' 2' read as '2', an empty cell as ''."""
    return [re.sub(r"^(\d+)\.0+$", r"\1", cell.strip()) for cell in cells]


def without_ending(name: str) -> str:
    """The name of a picture, or the path to it, without its ending; back-slashes become slashes."""
    path = PurePosixPath(name.replace("\\", "/"))
    return (path.with_suffix("") if path.suffix.lower() in PICTURES else path).as_posix()


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
