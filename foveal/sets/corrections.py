"""correct: second opinions on grades, kept beside the labels of the source, which never change.

DATA/corrections.csv has a row per decision: id, old, new, who, when, why. Every verb that opens the set applies them
in order and prints their number. An image whose first label is a correction is learned from, unless its patient is in
validation or test; one that is `ungradable` gets the flag of that name and no label.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from foveal.errors import FovealError
from foveal.sources.names import grade_of, plain_label

FILE = "corrections.csv"
COLUMNS = ("id", "old", "new", "who", "when", "why")
UNGRADABLE = "ungradable"  # as a new label, and as a flag: see foveal/fundus/quality.toml
CHANGES = "changes.csv"  # of a set that has grown: see foveal/sets/growth.py
SAME_PICTURE = ("renamed", "saved again")  # changes after which a correction still holds
# A spreadsheet would run a cell that begins like this as a formula. So writing puts an apostrophe in front, and reading
# removes it. Cells that begin with apostrophes before such a sign get one more, so that every text is restored exactly.
FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")


def label_of(text: str, classes: list[str], place: str = "") -> int | None:
    """The class of a number or name; None for none, ungradable or ""; else FovealError, at `place`, a file and line."""
    text = text.strip()
    if text in ("", "none", UNGRADABLE):
        return None
    if not classes:
        what = f"{place and f'{place}: '}'{text}' is no label of a set without classes"
        raise FovealError("label.scale", what, fix="prepare the photographs into another folder with --scale icdr")
    if text in classes:
        return classes.index(text)
    if (number := plain_label(text)).isdigit() and int(number) < len(classes):
        return int(number)
    if grade_of(text) is not None and [*map(grade_of, classes)] == [*range(len(classes))]:  # PDR, say
        return grade_of(text)
    expected = f"a number from 0 to {len(classes) - 1}, one of {', '.join(classes)}, {UNGRADABLE} or none"
    raise FovealError("label.value", f"{place and f'{place}: '}'{text}' is not a class", expected=expected)


def labels_of(records: pd.DataFrame) -> dict[str, str]:
    """Image id -> its label as in corrections.csv: the number of the class, `ungradable`, or empty text for none."""
    flagged = records["flags"].str.split().map(lambda flags: UNGRADABLE if UNGRADABLE in flags else "")
    return dict(zip(records["id"], records["label"].astype("string").fillna(flagged), strict=True))


def corrections_text(table: pd.DataFrame) -> str:
    """The text of a corrections.csv, which is safe to open in a spreadsheet; `read_corrections` restores it exactly."""
    guarded = table.map(lambda text: f"'{text}" if FORMULA.match(text) else text)
    return guarded.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_ALL)  # unquoted, a \\r ends the row


def read_corrections(file: Path) -> pd.DataFrame:
    """corrections.csv as text, without the guard against formulas; FovealError if it is not such a table."""
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise FovealError("table.damaged", f"{file} cannot be read: {error}", expected=", ".join(COLUMNS)) from error
    return unguarded(table, file, ("id", "old", "new")).reindex(columns=list(COLUMNS), fill_value="")


def unguarded(table: pd.DataFrame, file: Path, needed: Iterable[str]) -> pd.DataFrame:
    """The cells of `file` without the guard against formulas; FovealError if a column is `needed` and missing."""
    if missing := [name for name in needed if name not in table]:
        what = f"{file}: no column {', '.join(missing)}"
        raise FovealError("table.missing_column", what, expected=", ".join(COLUMNS))
    return table.map(lambda text: text[1:] if text.startswith("'") and FORMULA.match(text) else text)


def read_changes(folder: Path) -> pd.DataFrame:
    """changes.csv of a set that has grown, as text: id, was, change, similarity, before, after, why."""
    if not (file := folder / CHANGES).is_file():
        return pd.DataFrame(columns=["id", "was", "change", "similarity", "before", "after", "why"], dtype=str)
    return pd.read_csv(file, dtype=str, keep_default_na=False)


def later_names(changes: pd.DataFrame, ids: Iterable[str]) -> dict[str, str]:
    """Earlier id -> id now, one of `ids`, of the pictures that `changes` found again under another name."""
    same, now = changes[changes["change"].isin(SAME_PICTURE)], set(ids)
    names: dict[str, str] = {}
    for then, was in zip(reversed(same["id"].tolist()), reversed(same["was"].tolist()), strict=True):
        name = names.get(then, then)  # a picture can be renamed again, in a later row
        if name in now and was not in now:
            names[was] = name
    return names


def apply_corrections(
    records: pd.DataFrame, file: Path, classes: list[str], *,
    partly: bool = False, names: Mapping[str, str] | None = None,
) -> pd.DataFrame:  # fmt: skip
    """The records after all corrections of `file`, in order; corrections that the labels already contain are accepted.

    partly: the file may name other images too. names: earlier id -> id in `records`. FovealError if they do not fit.
    """
    records, changes, now = records.copy(), read_corrections(file), names or {}
    place_of = dict(zip(records["id"], records.index, strict=True))
    judged = records[records["split"].isin(("val", "test")) & (records["group"] != "")]
    side_of = dict(zip(judged["group"], judged["split"], strict=True))
    changes = changes.assign(line=range(2, len(changes) + 2), id=[now.get(name, name) for name in changes["id"]])
    for name, steps in changes.groupby("id", sort=False):
        if (place := place_of.get(name)) is not None:
            label = _corrected(steps, records["label"][place], classes, file)
            records.loc[place, "label"] = pd.NA if label is None else label
            if "flags" in records:
                flags = [flag for flag in str(records["flags"][place]).split() if flag != UNGRADABLE]
                flags += [UNGRADABLE] * (steps["new"].iloc[-1] == UNGRADABLE)
                records.loc[place, "flags"] = " ".join(flags)
            if label is None:
                records.loc[place, "split"] = "unlabelled"
            elif records["split"][place] == "unlabelled":
                records.loc[place, "split"] = side_of.get(records["group"][place], "train")
        elif not partly:
            line = steps["line"].iloc[0]
            fix = "put the image back, or delete that line"
            raise FovealError("corrections.image", f"{file}, line {line}: the set has no image '{name}'", fix=fix)
    return records


def _corrected(steps: pd.DataFrame, label: Any, classes: list[str], file: Path) -> int | None:
    now = None if pd.isna(label) else int(label)
    changes = [tuple(label_of(text, classes, f"{file}, line {line}") for text in pair)
               for line, *pair in steps[["line", "old", "new"]].to_numpy().tolist()]  # fmt: skip
    taken = max((n for n, (_, new) in enumerate(changes, 1) if new == now), default=0) if changes[0][0] != now else 0
    for step, (old, new) in zip(steps.iloc[taken:].itertuples(), changes[taken:], strict=True):
        if old != now:
            has = "none" if now is None else now
            what = f"{file}, line {step.line}: '{step.id}' should have label {str(step.old) or 'none'}, has {has}"
            fix = "if the label of the source is right, add it with `foveal correct`, then prepare again"
            raise FovealError("corrections.label", what, fix=fix)
        now = new
    return now
