"""Tables of labels and the pictures they name.

CSV and Excel files are read as text, with columns by their names and grades as numbers. Pictures are matched by name;
all other pictures are an unlabelled pool.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path, PurePosixPath

import pandas as pd

from foveal.errors import FovealError
from foveal.page.words import counted
from foveal.sources.cards import ICDR
from foveal.sources.source import (
    Source,
    keep_columns,
    list_pictures,
    make_table,
    patients_and_eyes,
    picture_ids,
    without_ending,
)


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """One table of labels: `rows` as made by `make_table`, whose `file` column names pictures in `folder`."""

    table: Path
    folder: Path
    rows: pd.DataFrame
    first_row: int = 2  # number of the first row of labels in the file: row 1 holds the names of the columns


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
        text = _decoded(file.read_bytes())
        separator = max(",;\t", key=text.partition("\n")[0].count)
        rows = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False, sep=separator)
    except ValueError as error:
        raise FovealError("table.damaged", f"{file} cannot be read as a table ({error})") from error
    if not isinstance(rows.index, pd.RangeIndex):  # pandas takes surplus cells for an index and shifts all columns
        raise FovealError("table.extra_cells", f"the rows of {file} have more cells than its header has names")
    return _tidy(rows, file)


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252")


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


def label_rows(
    table: Path, names: Iterable[str], cells: Iterable[str], classes: Sequence[str] = ICDR, *,
    folder: Path | None = None, prefix: str = "", ungradable: str | None = None, flags: Sequence[str] = (),
    first_row: int = 2, keep: pd.DataFrame | None = None, **columns: str | Sequence[str],
) -> Labelled:  # fmt: skip
    """The rows of a table of grades: `cells` hold the grade of each picture in `names`, 0 … len(classes) - 1.

    Cells that equal `ungradable` give no label and the flag `ungradable`, before those in `flags`. FovealError for the
    first cell that is anything else, or empty. folder: of the pictures, by default that of the table; prefix: of the
    ids; keep: other columns, see `keep_columns`; columns: split, group and eye, as of `make_table`.
    """
    files, grades = list(names), plain_numbers(cells)
    numbers: dict[str, int | None] = {str(grade): grade for grade in range(len(classes))}
    if ungradable is not None:
        numbers[ungradable] = None
    check_cells(table, "grade", files, grades, "|".join(numbers), ", ".join(numbers), "label.value")
    labels = [numbers[grade] for grade in grades]
    pairs = zip(labels, flags or [""] * len(files), strict=True)
    marks = [flag if label is not None else f"ungradable {flag}".strip() for label, flag in pairs]
    rows = make_table([prefix + without_ending(file) for file in files], files, labels, flags=marks, **columns)
    rows = rows if keep is None else keep_columns(rows, keep)
    return Labelled(table=table, folder=folder or table.parent, rows=rows, first_row=first_row)


def check_cells(
    file: Path, what: str, names: Sequence[str], cells: Iterable[str], pattern: str, expected: str, code: str
) -> None:
    """FovealError, with file, row and image, for the first cell that does not fit the pattern."""
    for row, (name, cell) in enumerate(zip(names, cells, strict=True), 2):  # row 1 holds the names of the columns
        if not re.fullmatch(pattern, cell):
            raise FovealError(code, f"{file}, row {row}: {what} of image {name} is '{cell}'", expected=expected)


def plain_numbers(cells: Iterable[str]) -> list[str]:
    """Cells as text: '2.0' and ' 2' read as '2', an empty cell as ''."""
    return [re.sub(r"^(\d+)\.0+$", r"\1", cell.strip()) for cell in cells]


def graded(root: Path, parts: Sequence[Labelled], classes: tuple[str, ...] = ICDR, *notes: str) -> Source:
    """A source of pictures below `root` with grades from tables; pictures without a grade are a pool."""
    table, pool = add_pictures(root, parts)
    flags = table["flags"].str.split().explode().value_counts()
    grades = f"grades from {', '.join(part.table.name for part in parts)}"
    flagged = "; ".join(f"{counted(count, 'photograph')} with the flag {flag}" for flag, count in flags.items())
    return Source(root=root, table=table, classes=classes, notes=(grades, *notes, flagged, pool_note(pool)))


def add_pictures(root: Path, parts: Sequence[Labelled]) -> tuple[pd.DataFrame, int]:
    """The rows of all parts, then a row for each picture that none of them names; also the number of the latter.

    Names in `file` become paths below `root`; the name of a missing picture stays unchanged. FovealError where a folder
    does not exist, a name matches two pictures, or two names match one picture.
    """
    pictures = list_pictures(root)
    tables: list[pd.DataFrame] = []
    name_of: dict[Path, str] = {}
    for part in parts:
        if not part.folder.is_dir():
            missing = f"{part.table} has labels for {len(part.rows)} pictures in {part.folder}, which does not exist"
            raise FovealError("source.missing_folder", missing)
        paths = _match(part, _by_name(pictures, part.folder), name_of)
        tables.append(part.rows.assign(file=[path.relative_to(root).as_posix() for path in paths]))
    named = pd.concat(tables, ignore_index=True)
    pool = _pool(root, [path for path in pictures if path not in name_of], set(named["id"]))
    return (pd.concat([named, pool], ignore_index=True) if len(pool) else named), len(pool)


def _by_name(pictures: list[Path], folder: Path) -> dict[str, list[Path]]:
    """The pictures in a folder by what a table may call them, in lower case: path or name, with or without ending."""
    by_name: dict[str, list[Path]] = {}
    for path in pictures:
        if path.is_relative_to(folder):
            relative = path.relative_to(folder).as_posix()
            for key in {relative, relative.removesuffix(path.suffix), path.name, path.stem}:
                by_name.setdefault(key.lower(), []).append(path)
    return by_name


def _match(part: Labelled, by_name: dict[str, list[Path]], name_of: dict[Path, str]) -> list[Path]:
    """The picture of each name in a table, or where it is missing from; fills `name_of` with the name of each picture.

    A name is a path below the folder or a file name, with or without its ending. Case, backslashes and a different
    ending on disk do not matter. A name with a folder in it matches only a picture in that folder.
    """
    found: list[Path] = []
    for row, name in enumerate(part.rows["file"], part.first_row):
        plain = PurePosixPath(name.replace("\\", "/")).as_posix()
        hits = by_name.get(plain.lower()) or by_name.get(without_ending(name).lower(), [])
        where = f"{part.table}, row {row}"
        if len(hits) > 1:
            several = f"{where}: '{name}' matches several pictures: {', '.join(str(hit) for hit in hits[:3])}"
            raise FovealError("table.ambiguous_image", several, fix="write the path of the picture into the table")
        if hits and name_of.setdefault(hits[0], name) != name:
            both = f"{where}: '{name_of[hits[0]]}' and '{name}' match the same picture, {hits[0]}"
            raise FovealError("table.ambiguous_image", both, fix="keep one of the rows")
        found.append(hits[0] if hits else part.folder / name)
    return found


def _pool(root: Path, pictures: list[Path], taken: set[str]) -> pd.DataFrame:
    """Unlabelled rows. Where an id is in use already, the ending is added: if `a` is a.png, a.jpg becomes `a.jpg`."""
    files = [path.relative_to(root).as_posix() for path in pictures]
    short = picture_ids(pictures, root)
    ids = [file if name in taken else name for name, file in zip(short, files, strict=True)]
    patients, eyes = patients_and_eyes(short)
    return make_table(ids, files, group=patients, eye=eyes)


def pool_note(count: int) -> str:
    """A note on pictures that no table names; empty where there are none."""
    return f"{counted(count, 'picture')} not in the table: an unlabelled pool" if count else ""
