"""correct: second opinions on grades, kept beside the labels of the source, which never change.

    foveal correct DATA 20051020_44923_0100_PP --new 2 --why "haemorrhages below the macula"

DATA/corrections.csv has a row per decision: id, old, new, who, when, why. Every verb that opens the set applies them
in order and prints their number.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pandas as pd

from foveal.errors import FovealError

FILE = "corrections.csv"
COLUMNS = ("id", "old", "new", "who", "when", "why")
# A spreadsheet would run a cell that begins like this as a formula, and anybody can write names and notes. So writing
# puts an apostrophe in front, which makes the cell text, and reading removes it. The pattern includes cells that begin
# with apostrophes followed by such a sign: they get one more, so that every text is restored exactly.
FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")


def label_of(text: str, classes: list[str]) -> int | None:
    """The class that a number or a name means, None for "none" or an empty text; FovealError for anything else."""
    text = text.strip()
    if text in ("", "none"):
        return None
    if text in classes:
        return classes.index(text)
    if text.isdigit() and int(text) < len(classes):
        return int(text)
    expected = f"a number from 0 to {len(classes) - 1}, one of {', '.join(classes)}, or none"
    raise FovealError("label.value", f"'{text}' is not a class", expected=expected)


def corrections_text(table: pd.DataFrame) -> str:
    """The text of a corrections.csv: safe to open in a spreadsheet, and `read_corrections` restores it exactly."""
    guarded = table.map(lambda text: f"'{text}" if FORMULA.match(text) else text)
    return guarded.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_ALL)  # unquoted, a \\r ends the row


def read_corrections(file: Path) -> pd.DataFrame:
    """corrections.csv as text, without the guard against formulas; FovealError where it is not such a table."""
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        what, expected = f"{file} cannot be read: {error}", f"a table with the columns {', '.join(COLUMNS)}"
        raise FovealError("table.damaged", what, expected=expected) from error
    if missing := [name for name in ("id", "old", "new") if name not in table]:
        expected = f"the columns {', '.join(COLUMNS)}"
        raise FovealError("table.missing_column", f"{file}: missing column {', '.join(missing)}", expected=expected)
    table = table.map(lambda text: text[1:] if text.startswith("'") and FORMULA.match(text) else text)
    return table.reindex(columns=list(COLUMNS), fill_value="")


def apply_corrections(records: pd.DataFrame, file: Path, classes: list[str], partly: bool = False) -> pd.DataFrame:
    """The records after all corrections of `file`, in their order.

    partly: the file may name other images too, such as those of the whole set when `records` is only its test part.
    An image whose label is removed becomes unlabelled. FovealError for an unknown id, or an `old` that is not the
    image's label: such a file belongs to another set, or to labels that have changed since.
    """
    records = records.copy()
    place_of = dict(zip(records["id"], records.index, strict=True))
    removed: dict[str, str] = {}  # images whose label was removed, with their split, in case it is restored
    for line, change in enumerate(read_corrections(file).to_dict("records"), start=2):
        if change["id"] not in place_of and partly:
            continue
        if change["id"] not in place_of:
            raise FovealError("corrections.image", f"{file}, line {line}: the set has no image '{change['id']}'")
        place = place_of[change["id"]]
        label: Any = records["label"][place]
        old, new = label_of(change["old"], classes), label_of(change["new"], classes)
        restored = old is None and change["id"] in removed
        if not restored and (old is None or pd.isna(label) or old != int(label)):
            now = "none" if pd.isna(label) else label
            what = f"{file}, line {line}: '{change['id']}' should have label {change['old'] or 'none'}, has {now}"
            raise FovealError("corrections.label", what)
        records.loc[place, "label"] = pd.NA if new is None else new
        if restored:
            records.loc[place, "split"] = removed.pop(change["id"])
        if new is None:
            removed[change["id"]] = str(records["split"][place])
            records.loc[place, "split"] = "unlabelled"
    return records
