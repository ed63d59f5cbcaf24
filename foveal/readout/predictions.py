"""predictions.csv: the input of every metric and report. It is checked strictly when read.

Columns: id, label (may be empty), p0 … pK, grade, referable (0 or 1, empty without a severity scale), group, split.
Rows without a grade (column `answer` is ungradable or unreadable) are skipped and counted.
"""

import csv
import re
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd

from foveal.console import warn
from foveal.errors import FovealError
from foveal.sets.corrections import UNGRADABLE
from foveal.sets.splits import HELD_OUT

SUM_TOLERANCE = 1e-3
SPLITS = ("train", "val", "test", "unlabelled", HELD_OUT, "")  # "" for an image that is not in a prepared set
REQUIRED = ("id", "label", "grade", "referable", "group", "split")
ANSWERS = ("graded", "ungradable", "unreadable")
TEXT = ("id", "group", "eye", "camera", "split", "flags", "source", "set", "unlike", "answer", "reason", "advice")


def read_predictions(file: Path) -> pd.DataFrame:
    """Read and check a table of predictions; FovealError (`predictions.…`) if it is invalid."""
    table = _read_text(file)
    columns = probability_columns(table)
    wanted = [*REQUIRED, *(f"p{number}" for number in range(max(2, len(columns))))]
    if missing := [column for column in wanted if column not in table]:
        what = f"{file} has no column {', '.join(missing)}; its columns are {', '.join(map(str, table))[:200]}"
        fix = "add it; label, referable, group and split may be empty"
        raise FovealError("predictions.missing_column", what, fix=fix)
    if not len(table):
        raise FovealError("predictions.empty", f"{file} has no rows")
    if nameless := int((table["id"] == "").sum()):
        raise FovealError("predictions.missing_id", f"{file}: {nameless} row(s) have no id")
    repeated = table["id"][table["id"].duplicated()].unique()
    if len(repeated):
        raise FovealError("predictions.duplicate_id", f"{file}: several rows have the id {', '.join(repeated[:5])}")
    for column, known in (("split", SPLITS), ("answer", ANSWERS)):
        if unknown := sorted(set(table.get(column, [])) - set(known)):
            what, expected = f"{file}: column {column} contains '{unknown[0]}'", ", ".join(filter(None, known))
            raise FovealError("predictions.value", what, expected=expected)
    table = _graded(table, file)
    table[columns] = _probabilities(table, columns, file)
    for column, highest in (("label", len(columns) - 1), ("grade", len(columns) - 1), ("referable", 1)):
        table[column] = _whole_numbers(table, column, highest, file)
    return table.astype({"grade": "int64"})


def _read_text(file: Path) -> pd.DataFrame:
    if not file.is_file():
        raise FovealError("predictions.missing", f"{file} does not exist", fix="give a run folder or a predictions.csv")
    try:
        data = file.read_bytes()
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        # Read classes of a second task as text, so that "1" does not become 1.0.
        kinds = dict.fromkeys([*TEXT, *(name.partition("=")[0] for name in _header(text, file) if "=" in name)], str)
        missing = {"label": [""], "referable": [""]}
        return pd.read_csv(StringIO(text), dtype=kinds, keep_default_na=False, na_values=missing)
    except pd.errors.EmptyDataError:
        raise FovealError("predictions.empty", f"{file} is empty", expected="a first line of column names") from None
    except (UnicodeError, pd.errors.ParserError) as error:
        raise FovealError("predictions.damaged", f"{file} cannot be read as CSV text ({str(error).strip()})") from None


def _header(text: str, file: Path) -> list[str]:
    """The column names; FovealError for separators other than commas, and for repeated names."""
    names = next(csv.reader(StringIO(text, newline="")), [])
    for sign, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and sign in names[0]:
            what, expected = f"the columns of {file} are separated by {word}", "commas, and decimal points in numbers"
            raise FovealError("predictions.separator", what, expected=expected, fix="save it as comma-separated CSV")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise FovealError("predictions.duplicate_column", f"{file} has more than one column {', '.join(repeated)}")
    return names


def _graded(table: pd.DataFrame, file: Path) -> pd.DataFrame:
    """The rows with a grade. Warns about the others, because results without them are for easier images."""
    if "answer" not in table:
        return table
    without = table[table["answer"] != "graded"]
    if len(without) == len(table):
        raise FovealError("predictions.nothing_graded", f"{file}: none of the {len(table)} images was graded")
    if len(without):
        counts = ", ".join(f"{count} {answer}" for answer, count in without["answer"].value_counts().items())
        labelled = int((without["label"].notna()).sum())
        warn(f"{file}: skipped {counts} image(s) without a grade; {labelled} of them have a label")
    return table.drop(index=without.index).reset_index(drop=True)


def read_ungraded(file: Path, *, known: bool = True) -> pd.DataFrame:
    """The rows without a grade that have a label or that readers called ungradable; `read_predictions` leaves them out.

    known: False for the other rows without a grade. FovealError for labels of no class.
    """
    table = _read_text(file)
    if "answer" not in table:
        return table.iloc[:0]
    flags = table.get("flags", pd.Series("", table.index)).fillna("").str.split()
    told = table["label"].notna() | flags.map(lambda words: UNGRADABLE in words)
    rows = table[(table["answer"] != "graded") & (told == known)]
    return rows.assign(label=_whole_numbers(rows, "label", len(probability_columns(table)) - 1, file), grade=None)


def _probabilities(table: pd.DataFrame, columns: list[str], file: Path) -> np.ndarray:
    numbers = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    bad = ~np.isfinite(numbers).all(1)
    finite = np.where(bad[:, None], 0, numbers)
    bad |= (finite < 0).any(1) | (abs(finite.sum(1) - 1) > SUM_TOLERANCE)
    if bad.any():
        first = table[bad].iloc[0]
        given = ", ".join(str(first[column]) or "nothing" for column in columns)
        what = f"{file}: {int(bad.sum())} row(s) have invalid probabilities; {first['id']} has {given}"
        raise FovealError("predictions.probability", what, expected="numbers from 0 to 1 that sum to 1")
    return numbers


def _whole_numbers(table: pd.DataFrame, column: str, highest: int, file: Path) -> pd.Series:
    """The column as nullable integers; only `grade` must have a value in every row."""
    values = pd.to_numeric(table[column], errors="coerce").astype(float)
    wrong = values.isna() & (table[column].notna() | (column == "grade"))
    wrong |= values.notna() & ~values.isin(range(highest + 1))
    if wrong.any():
        first = table[wrong].iloc[0]
        what = f"{file}: column {column} is wrong in {int(wrong.sum())} row(s); {first['id']} has '{first[column]}'"
        raise FovealError("predictions.value", what, expected=f"whole numbers 0..{highest}")
    return values.astype("Int64")


def probability_columns(table: pd.DataFrame) -> list[str]:
    """["p0", "p1", …], in class order."""
    found = [column for column in map(str, table) if re.fullmatch(r"p(0|[1-9]\d*)", column)]
    return sorted(found, key=lambda column: int(column[1:]))
