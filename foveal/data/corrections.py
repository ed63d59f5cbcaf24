"""correct: a second opinion on a grade, kept beside the prepared set and never over the source.

    foveal correct DATA 20051020_44923_0100_PP --new 2 --why "haemorrhages below the macula"

DATA/corrections.csv has a row per decision: id, old, new, who, when, why. Every verb that opens the set applies them,
in order, and says how many there are; without the file the set is as it was prepared.
"""

from __future__ import annotations

import csv
import getpass
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import tyro

from foveal.console import say
from foveal.runs import write_text

FILE = "corrections.csv"
COLUMNS = ("id", "old", "new", "who", "when", "why")
# A spreadsheet runs a cell that begins so as a formula, and a name or a note may come from anybody. An apostrophe in
# front makes it text there. Apostrophes that stand before such a sign already count, too: adding one when writing and
# taking one off when reading gives back every text, and files from before this guard read as they did.
FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")


@dataclass(frozen=True, kw_only=True)
class CorrectConfig:
    """Options of `foveal correct`."""

    # Prepared set.
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    # Id of the image, as in records.csv.
    image: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ID")]
    # The grade that it should have: number or name of the class; none takes its label away.
    new: str
    # The reason, for whoever reads it later.
    why: str
    # Who decides; by default the name of your account.
    who: str = ""

    def __post_init__(self) -> None:
        if not self.why.strip():
            raise ValueError("--why must say why: a correction without a reason convinces nobody")


def correct(config: CorrectConfig) -> Path:
    """Add one correction to DATA/corrections.csv; returns the file."""
    from foveal.data.records import open_prepared  # it applies corrections, and so imports this file

    prepared = open_prepared(config.data)
    records = prepared.records.set_index("id")
    if config.image not in records.index:
        raise ValueError(f"{config.data} has no image '{config.image}'; ids are those of records.csv")
    label: Any = records["label"][config.image]
    file = config.data / FILE
    before = read_corrections(file) if file.is_file() else pd.DataFrame(columns=list(COLUMNS))
    taken_away = pd.isna(label) and config.image in set(before["id"])
    if pd.isna(label) and not taken_away:
        raise ValueError(
            f"'{config.image}' has no label to be corrected; a first label belongs into the source's table: add it "
            "there and prepare again"
        )
    new = label_of(config.new, prepared.classes)
    if new == (None if taken_away else label):
        raise ValueError(f"'{config.image}' has this label already: {_name(new, prepared.classes)}")
    row = {
        "id": config.image,
        "old": "" if taken_away else str(label),
        "new": "" if new is None else str(new),
        "why": config.why.strip(),
    }
    row |= {"who": config.who or getpass.getuser(), "when": datetime.now(UTC).isoformat(timespec="seconds")}
    table = pd.concat([before, pd.DataFrame([row])])[list(COLUMNS)]
    write_text(file, corrections_text(table))
    had = None if taken_away else int(row["old"])
    change = f"{_name(had, prepared.classes)} -> {_name(new, prepared.classes)}"
    say(f"{config.image}: {change}; {len(table)} corrections in {file}")
    return file


def _name(label: int | None, classes: list[str]) -> str:
    return "no label" if label is None else classes[label]


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
