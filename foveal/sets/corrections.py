"""correct: a second opinion on a grade, kept beside the prepared set and never over the source.

    foveal correct DATA 20051020_44923_0100_PP --new 2 --why "haemorrhages below the macula"

DATA/corrections.csv has a row per decision: id, old, new, who, when, why. Every verb that opens the set applies them,
in order, and says how many there are; without the file the set is as it was prepared.
"""

from __future__ import annotations

import csv
import hashlib
import re
from pathlib import Path
from typing import Any

import pandas as pd

FILE = "corrections.csv"
COLUMNS = ("id", "old", "new", "who", "when", "why")
# A spreadsheet runs a cell that begins so as a formula, and a name or a note may come from anybody. An apostrophe in
# front makes it text there. Apostrophes that stand before such a sign already count, too: adding one when writing and
# taking one off when reading gives back every text, and files from before this guard read as they did.
FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")


def label_of(text: str, classes: list[str]) -> int | None:
    """The class that a number or a name means, None for "none" or an empty text; ValueError for anything else."""
    text = text.strip()
    if text in ("", "none"):
        return None
    if text in classes:
        return classes.index(text)
    if text.isdigit() and int(text) < len(classes):
        return int(text)
    raise ValueError(f"'{text}' is no class: give a number 0..{len(classes) - 1}, one of {', '.join(classes)}, or none")


def corrections_text(table: pd.DataFrame) -> str:
    """The text of a corrections.csv that is safe to open in a spreadsheet, and that `read_corrections` reads back."""
    guarded = table.map(lambda text: f"'{text}" if FORMULA.match(text) else text)
    return guarded.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_ALL)  # a lone \\r would end the row


def read_corrections(file: Path) -> pd.DataFrame:
    """corrections.csv as text, without the guard against formulas; ValueError names a missing column."""
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{file} cannot be read as a table with the columns {', '.join(COLUMNS)}: {error}") from error
    missing = [name for name in ("id", "old", "new") if name not in table]
    if missing:
        raise ValueError(f"{file}: missing column {', '.join(missing)}; expected {', '.join(COLUMNS)}")
    table = table.map(lambda text: text[1:] if text.startswith("'") and FORMULA.match(text) else text)
    return table.reindex(columns=list(COLUMNS), fill_value="")


def apply_corrections(records: pd.DataFrame, file: Path, classes: list[str], partly: bool = False) -> pd.DataFrame:
    """The records with all corrections of `file` made, in their order.

    partly: the file may name other images, too, as that of a whole set does for the predictions of its test part.
    An image whose label is taken away becomes unlabelled. Raises ValueError for an id that is not there, or an `old`
    that is not the image's label: such a file belongs to another set, or to labels that have changed since.
    """
    records = records.copy()
    place_of = dict(zip(records["id"], records.index, strict=True))
    taken: dict[str, str] = {}  # images without their label, and the part that they stood in: it may be given back
    for line, change in enumerate(read_corrections(file).to_dict("records"), start=2):
        if change["id"] not in place_of and partly:
            continue
        if change["id"] not in place_of:
            raise ValueError(f"{file}, line {line}: there is no image '{change['id']}' in the set")
        place = place_of[change["id"]]
        label: Any = records["label"][place]
        old, new = label_of(change["old"], classes), label_of(change["new"], classes)
        given_back = old is None and change["id"] in taken
        if not given_back and (old is None or pd.isna(label) or old != int(label)):
            now: str = "no label" if pd.isna(label) else f"label {label}"
            asked = change["old"] or "none"
            raise ValueError(f"{file}, line {line}: '{change['id']}' should have label {asked}, has {now}")
        records.loc[place, "label"] = pd.NA if new is None else new
        if given_back:
            records.loc[place, "split"] = taken.pop(change["id"])
        if new is None:
            taken[change["id"]] = str(records["split"][place])
            records.loc[place, "split"] = "unlabelled"
    return records


def corrected_card(card: dict[str, Any], file: Path) -> dict[str, Any]:
    """The card of a set with corrections: their number, and a content hash that tells it from the set without."""
    digest = hashlib.sha256(card["content_hash"].encode() + file.read_bytes()).hexdigest()
    return card | {"content_hash": digest, "corrections": len(read_corrections(file))}
