"""Read tables as people keep them: CSV and Excel files as text, and the meaning of their columns."""

import csv
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from io import StringIO
from itertools import chain
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import pandas as pd

from foveal.errors import FovealError, check_packages
from foveal.page.words import counted
from foveal.sources.columns import USUAL, row_per_picture, usual_columns
from foveal.sources.names import HIDDEN, WORDS, is_missing
from foveal.sources.source import KEPT, PICTURES, SHEETS, TABLES

MOST_TITLE = 20  # lines in which the names of columns are looked for
SIGNS = {encoding: signs.encode() for encoding, signs in WORDS["signs"].items()}  # the usual ones
_HIGH, _WESTERN, _ICELANDIC, _TURKISH, _NOT_COMPUTED = (re.compile(WORDS["bytes"][name].encode())
    for name in ("high", "western", "icelandic", "turkish", "not_computed"))  # fmt: skip


def find_table(path: Path) -> Path | None:
    """The table at a path; some archives unpack x.csv to a folder x.csv with the file in it."""
    return next((file for file in (path, path / path.name) if file.is_file()), None)


def tables_at(path: Path) -> list[Path]:
    """The table at a path, or the one in a folder, or of several, up to three folders below, those with labels."""
    if path.suffix.lower() in TABLES and (file := find_table(path)):
        return [file]
    shown = ((place for place in sorted(path.glob("*/" * level + "*")) if place.suffix.lower() in TABLES
              and not HIDDEN.search(place.relative_to(path).as_posix())) for level in range(4))  # fmt: skip
    levels = [list(filter(None, map(find_table, places))) for places in shown]
    top = [file for file in levels[0] if file.suffix.lower() != ".txt"]
    labelled = [file for file in dict.fromkeys(chain(*levels)) if has_labels(file)]
    return top if len(top) == 1 and top[0] not in labelled else labelled


def read_table(file: Path, columns: Iterable[str]) -> pd.DataFrame:
    """The rows of a CSV or Excel file, "" where one of `columns` says NA or the like; FovealError without a column."""
    rows = read_rows(file)
    if missing := [column for column in columns if column not in rows]:
        what = f"{file} has no column {', '.join(missing)}; its columns are {', '.join(rows.columns)}"
        raise FovealError("table.missing_column", what)
    return rows.assign(**{column: rows[column].mask(rows[column].map(is_missing), "") for column in columns})


def read_rows(file: Path) -> pd.DataFrame:
    """All cells and column names of a CSV file, or of a sheet of an Excel file, as text without spaces around.

    Rows without any cell are left out; the others keep their index.

    CSV: commas, semicolons, tabs or bars; UTF-8, UTF-16, cp1252 or an encoding of East Asia. In a .txt, a blank may be
    before the last cell. If the first row names a picture instead of columns, the columns are called image, label, …
    """
    if file.suffix.lower() in SHEETS:
        return _read_sheet(file)
    try:
        text = re.sub(r"\Asep=.\r?\n", "", _decoded(file.read_bytes(), file))
        if "\0" in text:
            what = f"{file}, line {text.count(chr(10), 0, text.index(chr(0))) + 1}: a zero byte, which is not text"
            raise FovealError("table.damaged", what, fix="delete it, or save the table as CSV UTF-8 again")
        if file.suffix.lower() == ".txt" and not re.search("[,;\t|]", text.lstrip().partition("\n")[0]):
            text = re.sub(rf"(?im) +(?!\S+({'|'.join(PICTURES)}) *$)(?=\S+ *$)", "\t", text)
        separator = max(",;\t|", key=text.lstrip("\r\n").partition("\n")[0].count)
        _check_title([re.split("[,;\t|]", line) for line in text.lstrip("\r\n").splitlines()[:MOST_TITLE]], file)
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


def _check_title(lines: Sequence[Sequence[str]], file: Path) -> None:
    """FovealError if the names of the columns are below a title; lines: the first ones, as cells."""
    cells = [[cell.strip(' "') for cell in line] for line in lines]
    named = [line for line in cells if usual_columns(line, "image") and usual_columns(line, "label")]
    if named and named[0] != cells[0]:
        above = cells.index(named[0])
        what = f"{file}: the names of the columns stand in line {above + 1}: {', '.join(named[0])}"
        fix = "delete the line above" if above == 1 else f"delete the {above} lines above"
        raise FovealError("table.title", what, expected="the names of the columns in the first line", fix=fix)


def _check_quotes(text: str, separator: str, file: Path) -> None:
    """FovealError if a stray quotation mark makes one cell of several rows."""
    width = text.lstrip("\r\n").partition("\n")[0].count(separator)
    reader, begun = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True), 1
    try:
        for row in reader:
            if any(line.count(separator) == width for cell in row for line in cell.split("\n")[1:]) and width:
                raise csv.Error("it is closed in a later row")
            begun = reader.line_num + 1
    except csv.Error as error:
        what = f"{file}, line {begun}: a quotation mark opens a cell but does not close it ({error})"
        raise FovealError("table.damaged", what, fix="delete the mark, or double it and quote the cell") from None


def _decoded(data: bytes, file: Path, errors: str = "strict") -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:2]:
        return data.decode("utf-16" if data[0] >= 0xFE else "utf-16-be" if data[0] == 0 else "utf-16-le", errors)
    with suppress(UnicodeDecodeError):
        return data.decode("utf-8-sig", errors)
    if len(names := encodings_of(data)) != 1:
        what = f"the encoding of {file} is not clear: it may be {' or '.join(names) or 'a rare one'}"
        fix = "save it as UTF-8 (in Excel: CSV UTF-8), or run iconv -f ENCODING -t UTF-8"
        raise FovealError("table.encoding", what, fix=fix)
    return data.decode(names[0])


def encodings_of(data: bytes) -> list[str]:
    """The encodings that a text that is not UTF-8 may be in: those whose usual signs leave the fewest bytes."""
    if not _HIGH.search(_WESTERN.sub(b"", data)):
        turkish = _ICELANDIC.search(data) and not _HIGH.search(_TURKISH.sub(b"", data))
        return ["cp1254" if turkish else "cp1252"]
    left = {name: len(_HIGH.findall(re.sub(signs, b"", data))) for name, signs in SIGNS.items()}
    least = min(left.values())
    return [name for name, n in left.items() if n == least and 10 * least <= len(_HIGH.findall(data))]


def _read_sheet(file: Path) -> pd.DataFrame:
    """The sheet of an Excel file with pictures and labels, or else the first one that is not empty; 17.0 is 17, as it
    shows. FovealError if several sheets have labels. `attrs` says what is not read."""
    check_packages(str(file), "excel", "python_calamine")
    from python_calamine import CalamineError, CalamineWorkbook, SheetTypeEnum

    try:
        book = CalamineWorkbook.from_path(file)
        names = [sheet.name for sheet in book.sheets_metadata if sheet.typ == SheetTypeEnum.WorkSheet]
        cells = {name: book.get_sheet_by_name(name).to_python() for name in names}
    except (CalamineError, OSError) as error:
        raise FovealError("table.damaged", f"{file} cannot be read as an Excel file ({error})") from error
    sheets = {name: [[str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell) for cell in row]
                     for row in cells[name]] for name in names}  # fmt: skip
    filled = [name for name, lines in sheets.items() if any(map(any, lines))]
    labelled = [name for name in filled if any(usual_columns(line, "image") and usual_columns(line, "label")
                                               for line in sheets[name][:MOST_TITLE])]  # fmt: skip
    if len(labelled) > 1:
        what = f"{file} has labels in {len(labelled)} sheets: {', '.join(map(repr, labelled))}"
        raise FovealError("table.sheets", what, fix="put all rows into one sheet, or each sheet into a file of its own")
    chosen = next(iter(labelled or filled), "")
    lines = sheets.get(chosen, [])
    _check_title(lines[:MOST_TITLE], file)
    _check_formulas(file, book.sheet_names.index(chosen) + 1 if chosen else 1)
    header, *rows = lines or [[]]
    columns = [name.strip() or f"Unnamed: {number}" for number, name in enumerate(header)]
    table = _tidy(pd.DataFrame(rows, columns=columns, dtype=str), file)
    others = ", ".join(repr(name) for name in filled if name != chosen)
    table.attrs["sheets"] = f"only the sheet {chosen!r} is read, not {others}" if others else ""
    return table


def _check_formulas(file: Path, number: int) -> None:
    """FovealError if the sheet of this number has formulas without values, as programs write that do not compute."""
    with suppress(BadZipFile, KeyError), ZipFile(file) as book:  # of old Excel, or with sheets of other names
        if empty := _NOT_COMPUTED.findall(book.read(f"xl/worksheets/sheet{number}.xml")):
            what = f"{file} has {counted(len(empty), 'formula')} without a value, such as in {empty[0][0].decode()}"
            raise FovealError("table.formulas", what, fix="save it with a spreadsheet program, or write values into it")


def _tidy(rows: pd.DataFrame, file: Path) -> pd.DataFrame:
    rows = rows.fillna("").rename(columns=lambda name: str(name).strip())  # a row with few cells has empty ones
    if len(repeated := rows.columns[rows.columns.duplicated()]):
        raise FovealError("table.duplicate_column", f"{file} has two columns named '{repeated[0]}'", fix="rename one")
    plain = pd.DataFrame({name: rows[name].str.strip() for name in rows.columns})
    return plain[(plain != "").any(axis=1)] if plain.shape[1] else plain


def keep_columns(table: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """`table` with those columns of `others` that have a name and are not empty; their names get the prefix KEPT."""
    named = [name for name in map(str, others) if name and not name.startswith("Unnamed:")]
    return table.assign(**{f"{KEPT}{name}": others[name].to_numpy() for name in named if (others[name] != "").any()})


def has_columns(file: Path, columns: Iterable[str]) -> bool:
    """Whether `file` exists and its first line names these columns."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        header = _decoded(stream.read(1 << 16), file, "replace").partition("\n")[0]
    return set(columns) <= {name.strip().strip('"').strip() for name in re.split("[,;\t]", header)}


def has_labels(file: Path) -> bool:
    """Whether a table has columns of pictures and labels; not one to be sent to a contest, whose labels are made up."""
    made_up = "submission" in file.stem.lower()
    try:
        if file.suffix.lower() == ".txt":  # there may be thousands that have nothing to do with labels
            with file.open("rb") as stream:
                start = stream.read(500).lower().replace(b"\0", b"")
            made_up = not any(word.encode() in start for word in (*PICTURES, *USUAL["image"][0]))
        rows = pd.DataFrame() if made_up else row_per_picture(read_rows(file))
        return not made_up and bool(usual_columns(rows, "image") and usual_columns(rows, "label"))
    except FovealError as error:
        return error.code in ("table.title", "table.sheets", "table.formulas")
    except OSError:
        return False


def known_set(file: Path, columns: Iterable[str]) -> str:
    """The published set that a table looks like, and what its labels mean; "" for others."""
    there, known = {name.lower() for name in columns}, WORDS["known"].items()
    about = [about for signs, about in known if set(signs.split()) <= there or signs == file.name.lower()]
    return f"{file.name} looks like {about[0]}" if about else ""


def known_table(file: Path) -> str:
    """The result of `known_set` for a file; "" if it cannot be read."""
    with suppress(FovealError):
        return known_set(file, map(str, read_rows(file)))
    return ""


def choose_column(rows: pd.DataFrame, asked: str | None, what: str, file: Path) -> str:
    """The column that holds `what`: the one asked for, otherwise the only one with a usual name."""
    matches = usual_columns(rows, what) if asked is None else [asked]
    if len(matches) == 1 and matches[0] in rows:
        return matches[0]
    has = f"its columns are {', '.join(repr(column) for column in rows)}"
    if asked is not None:
        raise FovealError("table.missing_column", f"{file} has no column '{asked}' (--{what}-column); {has}")
    problem = f"{file}: {len(matches) or 'no'} columns could hold the {what}; {has}"
    problem += f"; {unread}" if (unread := rows.attrs.get("sheets")) else ""
    problem += f"; {known}" if (known := known_set(file, map(str, rows))) else ""
    fix = f"name it with --{what}-column" + ", or give --unlabelled if there are no labels" * (what == "label")
    if any(re.search("left|right", name.lower()) for name in map(str, rows)):
        fix += ", or give both eyes columns of one kind: left_image, right_image, left_grade, right_grade"
    raise FovealError("table.ambiguous_column" if matches else "table.missing_column", problem, fix=fix)
