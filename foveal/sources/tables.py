"""Tables as people keep them: CSV and Excel files as text, and which of their columns holds what."""

import csv
import re
from collections.abc import Iterable
from io import StringIO
from pathlib import Path

import pandas as pd

from foveal.errors import FovealError
from foveal.sources.source import KEPT, PICTURES, SHEETS

# The usual names of columns in lower case, with _ for spaces; a second tuple counts where the first has none.
USUAL: dict[str, tuple[tuple[str, ...], ...]] = {
    "image": (
        ("image", "image_id", "id_code", "file", "filename", "file_name", "image_name", "path", "image_path", "img"),
        ("id", "name", "image_fname", "file_path", "filepath", "img_id", "image_file", "photo"),
    ),
    "label": (
        ("label", "grade", "diagnosis", "level", "class", "dr_grade", "retinopathy_grade", "dr_level", "icdr"),
        ("dr_icdr", "final_icdr", "adjudicated_dr_grade", "dr", "stage", "dr_stage", "severity", "retinopathy"),
    ),
    "group": (
        ("patient", "patient_id", "patientid", "pid", "subject", "subject_id", "subjectid"),
        ("patient_code", "patient_no", "patient_number", "person", "person_id", "participant", "participant_id", "mrn"),
    ),
    "eye": (("eye", "laterality", "eye_side", "image_laterality", "side"),),
    "camera": (("camera", "camera_model", "camera_name", "device", "device_model", "scanner"),),
}  # fmt: skip

# Columns, or a file, by which published sets without a layout of their own are known.
KNOWN = {
    ("disease_risk", "armd", "dr"): "RFMiD, whose column DR says whether there is retinopathy, not its grade",
    ("left-fundus", "right-fundus"): "ODIR-5K, which has a row per patient: make a table with a row per picture",
    ("dr_seg_grading_label.csv",): "FGADR, which has grades 0-4 and no header",
    ("dr_icdr", "dr_sdrg"): "BRSET, whose column DR_ICDR has the grades",
    ("final_icdr", "laterality"): "mBRSET, whose column final_icdr has the grades",
}


def find_table(path: Path) -> Path | None:
    """The table at a path; some archives unpack x.csv to a folder x.csv with the file in it."""
    return next((file for file in (path, path / path.name) if file.is_file()), None)


def read_table(file: Path, columns: Iterable[str]) -> pd.DataFrame:
    """The rows of a CSV or Excel file; FovealError names those of `columns` that are missing."""
    rows = read_rows(file)
    if missing := [column for column in columns if column not in rows]:
        what = f"{file} has no column {', '.join(missing)}; its columns are {', '.join(rows.columns)}"
        raise FovealError("table.missing_column", what)
    return rows


def read_rows(file: Path) -> pd.DataFrame:
    """All cells and column names of a CSV file, or of the first sheet of an Excel file, as text without spaces around.

    CSV: commas, semicolons, tabs or bars; UTF-8, UTF-16 or cp1252. If the first row names a picture instead of columns,
    the columns are called image, label, …
    """
    if file.suffix.lower() in SHEETS:
        return _read_sheet(file)
    try:
        text = re.sub(r"\Asep=.\r?\n", "", _decoded(file.read_bytes()))
        if "\0" in text:
            raise FovealError("table.damaged", f"{file} is not a table in text")
        separator = max(",;\t|", key=text.lstrip("\r\n").partition("\n")[0].count)
        _check_quotes(text, separator, file)
        rows = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False, sep=separator)
        if pictures := [n for n, name in enumerate(rows) if Path(str(name).strip()).suffix.lower() in PICTURES]:
            rows = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False, sep=separator, header=None)
            names = ["label"] if rows.shape[1] == 2 else [f"column {number}" for number in range(1, rows.shape[1])]
            rows.columns = pd.Index([*names[: pictures[0]], "image", *names[pictures[0] :]])
    except FovealError:
        raise
    except (ValueError, pd.errors.ParserError) as error:
        raise FovealError("table.damaged", f"{file} cannot be read as a table ({error})") from error
    if not isinstance(rows.index, pd.RangeIndex):  # pandas takes surplus cells for an index and shifts all columns
        raise FovealError("table.extra_cells", f"the rows of {file} have more cells than its header has names")
    return _tidy(rows, file)


def _check_quotes(text: str, separator: str, file: Path) -> None:
    """FovealError where a stray quotation mark makes one cell of several rows."""
    width = text.lstrip("\r\n").partition("\n")[0].count(separator)
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
    begun = 1
    try:
        for row in reader:
            if any(line.count(separator) == width for cell in row for line in cell.split("\n")[1:]) and width:
                raise csv.Error("it closes in a later row")
            begun = reader.line_num + 1
    except csv.Error as error:
        what = f"{file}, line {begun}: a quotation mark opens a cell and does not close it ({error})"
        raise FovealError("table.damaged", what, fix="delete the mark, or double it and quote the cell") from None


def _decoded(data: bytes, errors: str = "strict") -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors)
    if b"\0" in data[:2]:
        return data.decode("utf-16-be" if data[0] == 0 else "utf-16-le", errors)
    try:
        return data.decode("utf-8-sig", errors)
    except UnicodeDecodeError:
        return data.decode("cp1252")


def _read_sheet(file: Path) -> pd.DataFrame:
    """The first sheet of an Excel file; 17.0 is 17, as the sheet shows it."""
    try:
        from python_calamine import CalamineError, CalamineWorkbook
    except ImportError as error:
        what = f"{file} needs python-calamine"
        raise FovealError("package.missing", what, fix="run pip install 'foveal[excel]'") from error
    try:
        cells = CalamineWorkbook.from_path(file).get_sheet_by_index(0).to_python()
    except (CalamineError, OSError) as error:
        raise FovealError("table.damaged", f"{file} cannot be read as an Excel file ({error})") from error
    header, *rows = [[_cell(cell) for cell in row] for row in cells] or [[]]
    names = [name.strip() or f"Unnamed: {number}" for number, name in enumerate(header)]
    return _tidy(pd.DataFrame(rows, columns=names, dtype=str), file)


def _cell(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _tidy(rows: pd.DataFrame, file: Path) -> pd.DataFrame:
    rows = rows.fillna("").rename(columns=lambda name: str(name).strip())  # a row with few cells has empty ones
    repeated = rows.columns[rows.columns.duplicated()]
    if len(repeated):
        raise FovealError("table.duplicate_column", f"{file} has two columns named '{repeated[0]}'", fix="rename one")
    return pd.DataFrame({name: rows[name].str.strip() for name in rows.columns})


def keep_columns(table: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """`table` with those columns of `others` that have a name and are not empty; their names get the prefix KEPT."""
    named = [name for name in map(str, others) if name and not name.startswith("Unnamed:")]
    return table.assign(**{f"{KEPT}{name}": others[name].to_numpy() for name in named if (others[name] != "").any()})


def has_columns(file: Path, columns: Iterable[str]) -> bool:
    """Whether `file` exists and its first line names these columns."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        header = _decoded(stream.read(1 << 16), "replace").partition("\n")[0]
    return set(columns) <= {name.strip().strip('"').strip() for name in re.split("[,;\t]", header)}


def known_set(file: Path, columns: Iterable[str]) -> str:
    """The published set that a table looks like, and what its labels mean; "" for others."""
    there = {name.lower() for name in columns}
    about = [about for signs, about in KNOWN.items() if set(signs) <= there or signs[0] == file.name.lower()]
    return f"{file.name} looks like {about[0]}" if about else ""


def usual_columns(rows: pd.DataFrame, what: str) -> list[str]:
    """The columns whose name usually means `what`, a key of `USUAL`."""
    named = {column: re.sub(r"[\s-]+", "_", column.strip().lower()) for column in map(str, rows)}
    found = ([column for column, name in named.items() if name in names] for names in USUAL[what])
    return next(filter(None, found), [])


def choose_column(rows: pd.DataFrame, asked: str | None, what: str, file: Path) -> str:
    """The column that holds `what`: the one asked for, otherwise the only one with a usual name."""
    matches = usual_columns(rows, what) if asked is None else [asked]
    if len(matches) == 1 and matches[0] in rows:
        return matches[0]
    has = f"its columns are {', '.join(repr(column) for column in rows)}"
    if asked is not None:
        raise FovealError("table.missing_column", f"{file} has no column '{asked}' (--{what}-column); {has}")
    code = "table.ambiguous_column" if matches else "table.missing_column"
    problem = f"{file}: {len(matches) or 'no'} columns could hold the {what}; {has}"
    problem += f"; {known}" if (known := known_set(file, map(str, rows))) else ""
    raise FovealError(code, problem, fix=f"name it with --{what}-column")
