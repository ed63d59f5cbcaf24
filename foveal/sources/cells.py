"""Reading of label tables: CSV and Excel files as text, columns by their names, grades as numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from foveal.errors import FovealError


def read_table(file: Path, columns: Iterable[str]) -> pd.DataFrame:
    """The rows of a CSV or Excel file; FovealError names those of `columns` that are missing."""
    rows = read_rows(file) if file.suffix.lower() == ".csv" else _read_sheet(file)
    missing = [column for column in columns if column not in rows]
    if missing:
        found = f"{file} has no column {', '.join(missing)}; its columns are {', '.join(rows.columns)}"
        raise FovealError("table.missing_column", found)
    return rows


def read_rows(file: Path) -> pd.DataFrame:
    """All cells and column names of a CSV file as text, without spaces around it.

    Separated by commas, semicolons or tabs; UTF-8 with or without a byte-order mark, or what Excel writes in western
    Europe (cp1252).
    """
    try:
        header, encoding = _read_header(file)
        separator = max(",;\t", key=header.count)
        rows = pd.read_csv(file, dtype=str, keep_default_na=False, sep=separator, encoding=encoding)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise FovealError("table.damaged", f"{file} cannot be read as a table ({error})") from error
    if not isinstance(rows.index, pd.RangeIndex):  # pandas takes surplus cells for an index and shifts all columns
        raise FovealError("table.extra_cells", f"the rows of {file} have more cells than its header has names")
    return _tidy(rows, file)


def _read_header(file: Path) -> tuple[str, str]:
    """The first line and the encoding."""
    data = file.read_bytes()
    try:
        return data.decode("utf-8-sig").partition("\n")[0], "utf-8-sig"
    except UnicodeDecodeError:
        return data.decode("cp1252").partition("\n")[0], "cp1252"


def _read_sheet(file: Path) -> pd.DataFrame:
    """The first sheet of an .xls or .xlsx file, as `read_rows` would give it."""
    try:
        from python_calamine import CalamineError, CalamineWorkbook
    except ImportError as error:
        missing = f"the Excel file {file} cannot be read: python-calamine is not installed"
        raise FovealError("package.missing", missing, fix="run pip install 'foveal[excel]'") from error
    try:
        cells = CalamineWorkbook.from_path(file).get_sheet_by_index(0).to_python()
    except (CalamineError, OSError) as error:
        raise FovealError("table.damaged", f"{file} cannot be read as an Excel file ({error})") from error
    header, *rows = [[str(cell) for cell in row] for row in cells] or [[]]
    return _tidy(pd.DataFrame(rows, columns=header, dtype=str), file)


def _tidy(rows: pd.DataFrame, file: Path) -> pd.DataFrame:
    rows = rows.rename(columns=lambda name: str(name).strip())
    repeated = rows.columns[rows.columns.duplicated()]
    if len(repeated):
        raise FovealError("table.duplicate_column", f"{file} has two columns named '{repeated[0]}'", fix="rename one")
    return pd.DataFrame({name: rows[name].str.strip() for name in rows.columns})


def has_columns(file: Path, columns: Iterable[str]) -> bool:
    """Whether `file` exists and its first line names these columns."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        header = stream.readline().decode("utf-8-sig", errors="replace")
    return set(columns) <= {name.strip().strip('"').strip() for name in re.split("[,;\t]", header)}


def read_grades(
    names: Sequence[str], cells: Iterable[str], count: int, file: Path, ungradable: str | None = None
) -> list[int | None]:
    """Grades 0 … count - 1 as numbers, None for cells that equal `ungradable`.

    FovealError with the file, the row and the image of the first cell that is anything else, or empty.
    """
    numbers: dict[str, int | None] = {str(grade): grade for grade in range(count)}
    if ungradable is not None:
        numbers[ungradable] = None
    grades = plain_numbers(cells)
    check_cells(names, grades, "grade", numbers, file, "label.value")
    return [numbers[grade] for grade in grades]


def check_cells(
    names: Sequence[str], cells: Iterable[str], what: str, allowed: Iterable[str], file: Path, code: str = "table.value"
) -> None:
    """FovealError, with file, row and image, for the first cell that is not one of the allowed values."""
    values = list(allowed)
    for row, (name, cell) in enumerate(zip(names, cells, strict=True), 2):  # row 1 holds the names of the columns
        if cell not in values:
            raise FovealError(code, f"{file}, row {row}: {what} of {name} is '{cell}'", expected=", ".join(values))


def check_names(names: Iterable[str], pattern: str, example: str, file: Path) -> None:
    """FovealError, with file and row, for the first name of an image that does not fit the pattern."""
    for row, name in enumerate(names, 2):
        if not re.fullmatch(pattern, name):
            expected = f"a name such as {example}"
            raise FovealError("table.image_name", f"{file}, row {row}: the image is named '{name}'", expected=expected)


def flag_ungradable(grades: Iterable[int | None]) -> list[str]:
    """The flag `ungradable` for each None."""
    return ["ungradable" if grade is None else "" for grade in grades]


def plain_numbers(cells: Iterable[str]) -> list[str]:
    """Cells as text: '2.0' and ' 2' read as '2', an empty cell as ''."""
    return [re.sub(r"^(\d+)\.0+$", r"\1", cell.strip()) for cell in cells]
