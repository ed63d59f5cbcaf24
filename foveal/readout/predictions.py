"""predictions.csv: the one input of metrics and reports; read strictly, so that a wrong file cannot pass.

Columns: id, label (may be empty), p0 … pK, grade, referable (0 or 1, empty without a severity scale), group, split.
Rows whose column `answer` says that there is no grade (ungradable, unreadable) are left out, and counted.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pandas as pd

from foveal.console import warn

SUM_TOLERANCE = 1e-3
SPLITS = ("train", "val", "test", "unlabelled", "")  # "" where a picture stands in no prepared set
REQUIRED = ("id", "label", "grade", "referable", "group", "split")


def read_predictions(file: Path) -> pd.DataFrame:
    """Read and check a table of predictions; ValueError says what is wrong with it."""
    if not file.is_file():
        raise ValueError(f"{file}: there is no such file; make one with: foveal predict RUN IMAGES --out {file}")
    table = _read_text(file)
    columns = probability_columns(table)
    missing = [column for column in REQUIRED if column not in table]
    if missing or len(columns) < 2:
        wanted = ", ".join(missing) or "p0, p1, …"
        raise ValueError(
            f"{file}: missing column {wanted}; found {', '.join(map(str, table.columns))[:200]}. Add it (group, split "
            "and referable may be empty), or make the table with: foveal predict"
        )
    numbered = [str(name) for name in table.columns if re.fullmatch(r"p\d+", str(name))]
    if len(numbered) != len(columns):
        raise ValueError(f"{file}: the probabilities must be p0, p1, … without a gap; found {', '.join(numbered)}")
    if not len(table):
        raise ValueError(f"{file} holds no predictions")
    _check_ids(table, file)
    table = _graded(table, file)
    table[columns] = _probabilities(table, columns, file)
    for column, highest in (("label", len(columns) - 1), ("grade", len(columns) - 1), ("referable", 1)):
        table[column] = _whole_numbers(table, column, highest, file)
    return table.astype({"grade": "int64"})


def _graded(table: pd.DataFrame, file: Path) -> pd.DataFrame:
    """The rows with a grade; what was left out is said, since figures of the rest are of easier images."""
    if "answer" not in table:
        return table
    unknown = sorted(set(table["answer"]) - {"graded", "ungradable", "unreadable"})
    if unknown:
        raise ValueError(f"{file}: answer '{unknown[0]}' is none of graded, ungradable, unreadable")
    without = table[table["answer"] != "graded"]
    if len(without) == len(table):
        raise ValueError(f"{file}: none of its {len(table)} images was graded; column reason says why")
    if len(without):
        counts = ", ".join(f"{count} {answer}" for answer, count in without["answer"].value_counts().items())
        labelled = int((without["label"].notna()).sum())
        warn(f"{file}: {counts} image(s) have no grade and are left out, {labelled} of them with a label")
    return table[table["answer"] == "graded"].reset_index(drop=True)


def _read_text(file: Path) -> pd.DataFrame:
    with file.open("rb") as stream:
        binary = b"\0" in stream.read(8192)
    text = dict.fromkeys(("id", "group", "split", "flags", "set", "answer", "reason"), str)
    try:
        if binary:
            raise UnicodeError("it holds zero bytes")
        names = _check_header(file)
        text |= {name.partition("=")[0]: str for name in names if "=" in name}  # classes of a second task: "1", not 1.0
        return pd.read_csv(file, dtype=text, keep_default_na=False, na_values={"label": [""], "referable": [""]})
    except pd.errors.EmptyDataError:
        raise ValueError(f"{file} is empty; a table of predictions begins with the names of its columns") from None
    except (UnicodeError, pd.errors.ParserError) as error:
        raise ValueError(f"{file} is not a table of predictions (CSV text): {str(error).strip()}") from None


def _check_header(file: Path) -> list[str]:
    """The names of the columns; ValueError where semicolons or tabs part them, and for a name that stands twice."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        names = next(csv.reader(stream), [])
    for sign, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and sign in names[0]:
            raise ValueError(
                f"{file}: its columns are parted by {word}, and must be by commas, with points in the numbers; "
                "save it as CSV (UTF-8, comma)"
            )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{file}: more than one column is named {', '.join(twice)}; each may stand once")
    return names


def _check_ids(table: pd.DataFrame, file: Path) -> None:
    if (table["id"] == "").any():
        raise ValueError(f"{file}: {int((table['id'] == '').sum())} row(s) have no id")
    repeated = table["id"][table["id"].duplicated()]
    if len(repeated):
        raise ValueError(
            f"{file}: ids must be unique, but {', '.join(repeated.unique()[:5])} stand(s) more than once; keep one row "
            "an image"
        )
    unknown = sorted(set(table["split"]) - set(SPLITS))
    if unknown:
        raise ValueError(f"{file}: split '{unknown[0]}' is none of {', '.join(SPLITS[:-1])}, or empty")


def _probabilities(table: pd.DataFrame, columns: list[str], file: Path) -> np.ndarray:
    numbers = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    bad = ~np.isfinite(numbers).all(1)
    finite = np.where(bad[:, None], 0, numbers)
    bad |= (finite < 0).any(1) | (abs(finite.sum(1) - 1) > SUM_TOLERANCE)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        summed = np.isfinite(numbers[first]).all() and (numbers[first] >= 0).all()
        raise ValueError(
            f"{file}: {int(bad.sum())} row(s) hold no probabilities (0-1, summing to 1); the first is "
            f"{table['id'].iloc[first]}, which has {_what(numbers[first])}. "
            f"{'Divide every row by its sum, or make' if summed else 'Make'} the table again with: foveal predict"
        )
    return numbers


def _what(row: np.ndarray) -> str:
    """What is wrong with the probabilities [K] of one row."""
    if not np.isfinite(row).all():
        return "something that is no number"
    return "one below 0" if (row < 0).any() else f"a sum of {row.sum():.4g}"


def _whole_numbers(table: pd.DataFrame, column: str, highest: int, file: Path) -> pd.Series:
    """The column as nullable integers; only a grade must be there in every row."""
    values = pd.to_numeric(table[column], errors="coerce").astype(float)
    wrong = values.isna() & (table[column].notna() | (column == "grade"))
    wrong |= values.notna() & ~values.isin(range(highest + 1))
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"{file}: column {column} must hold whole numbers 0..{highest}; {int(wrong.sum())} row(s) do not, such as "
            f"{table['id'].iloc[first]} with '{table[column].iloc[first]}'"
        )
    return values.astype("Int64")


def probability_columns(table: pd.DataFrame) -> list[str]:
    """["p0", "p1", …], in class order."""
    found = {str(column) for column in table.columns if re.fullmatch(r"p\d+", str(column))}
    return [f"p{number}" for number in range(len(found)) if f"p{number}" in found]


def units(table: pd.DataFrame) -> np.ndarray:
    """int [n]: what the bootstrap draws; images of one group share a number, others have their own."""
    own = pd.Series([f"\0{number}" for number in range(len(table))], index=table.index)
    known = table["group"].notna() & (table["group"] != "")
    return pd.factorize(table["group"].where(known, own))[0]
