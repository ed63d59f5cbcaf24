"""The training data: images and their targets, including pseudo-labels, and labels of a second task.

Pseudo-labels are a table that `foveal pseudolabel` writes:

    OUT/pseudo_labels.csv   id, set, sha256, grade, class, p0 … pK (the training target), score, round, model
    OUT/seen.csv            what the graders that assigned them were trained on
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from foveal.console import warn
from foveal.errors import FovealError
from foveal.losses.grading import one_hot
from foveal.page.words import counted
from foveal.readout.predictions import probability_columns
from foveal.readout.referral import OEDEMA, oedema_of
from foveal.sets.leaks import read_seen
from foveal.sets.records import PreparedSet, check_alike, open_prepared

MOST_SECOND = 10  # classes of a second task: a column with more values probably holds numbers or names
PSEUDO_LABELS = "pseudo_labels.csv"
NEEDED = ("id", "set", "sha256", "grade", "class", "score", "round", "model")
ROUNDED = 1e-4  # probabilities are rounded to six digits, so their sum may differ from 1 by this much
AGAIN = "make the pseudo-labels again"
Pseudo = tuple[PreparedSet, pd.DataFrame, np.ndarray]  # set, its records, targets float [m, K]


@dataclass(frozen=True, kw_only=True)
class Learned:
    """Training images and their targets."""

    parts: Sequence[tuple[PreparedSet, pd.DataFrame]]  # sets and the records used of each; graded images come first
    labels: np.ndarray  # int64 [n], the grade, or the most probable grade of a soft pseudo-label
    targets: Tensor  # float32 [n, K]
    second: np.ndarray | None = None  # int64 [n], labels of a second task, -1 if unknown
    second_classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, chosen: np.ndarray) -> "Learned":
        """The images of the first set that `chosen`, bool [m], selects, and all pseudo-labelled images."""
        kept = np.concatenate([np.flatnonzero(chosen), np.arange(len(chosen), len(self))])
        first = (self.parts[0][0], self.parts[0][1][chosen])
        second = None if self.second is None else self.second[kept]
        targets = self.targets[torch.from_numpy(kept)]
        return replace(self, parts=[first, *self.parts[1:]], labels=self.labels[kept], targets=targets, second=second)


def learned_from(
    prepared: PreparedSet, records: pd.DataFrame, pseudo: Sequence[Pseudo] = (), second: str | None = None
) -> Learned:
    """Labelled records, with a `second` column of columns.csv, and pseudo-labelled images; at least two classes."""
    if records["label"].nunique() < 2:
        there = f"{counted(len(records), 'labelled training image')} and classes: {records['label'].nunique()}"
        fix = "prepare a data source with labels of at least two classes"
        raise FovealError("set.too_few_classes", f"{prepared.path} has {there}", expected="at least 2 classes", fix=fix)
    if absent := [name for k, name in enumerate(prepared.classes) if k not in set(records["label"])]:
        warn(f"there are no training images of {', '.join(absent)}: the grader cannot learn to recognise this class")
    labels, size = records["label"].to_numpy(np.int64), len(prepared.classes)
    targets = [one_hot(torch.from_numpy(labels), size), *(torch.tensor(rows) for _, _, rows in pseudo)]
    grades = np.concatenate([labels, *(rows.argmax(1) for _, _, rows in pseudo)])
    codes, names = (None, ()) if second is None else second_labels(prepared, records, second)
    if codes is not None:
        codes = np.concatenate([codes, np.full(len(grades) - len(labels), -1)])
    parts = [(prepared, records), *((pool, chosen) for pool, chosen, _ in pseudo)]
    return Learned(parts=parts, labels=grades, targets=torch.cat(targets), second=codes, second_classes=names)


def second_labels(prepared: PreparedSet, records: pd.DataFrame, column: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """(labels int64 [n], -1 if unknown, and class names) of a column of columns.csv, or of `oedema`."""
    values = prepared.columns
    if column == OEDEMA and (oedema := oedema_of(values)) is not None:
        values = values.assign(**{OEDEMA: oedema})
    elif column in values and oedema_of(values[[column]].iloc[:0]) is not None:
        warn(f"--second {column} does not affect the referral; --second {OEDEMA} counts macular oedema as referable")
    if column not in values:
        expected = f"one of: {', '.join(map(str, values.columns)) or 'no columns'}"
        raise FovealError("option.value", f"--second {column} is not a column of {prepared.path}", expected=expected)
    known = values[column].reindex(records["id"]).fillna("").astype(str)
    names = tuple(sorted({*values[column].fillna("").astype(str)} - {""}))
    if not 2 <= len(names) <= MOST_SECOND:
        what = f"--second {column} has {counted(len(names), 'different value')}"
        raise FovealError("option.value", what, expected=f"2 to {MOST_SECOND}")
    return known.map({name: number for number, name in enumerate(names)}).fillna(-1).to_numpy(np.int64), names


def read_pseudo(file: Path, prepared: PreparedSet) -> list[Pseudo]:
    """Pseudo-labelled images, set by set; FovealError if there are none, or if the table does not fit the sets."""
    if not file.is_file():
        raise FovealError("table.missing", f"--pseudo-labels {file} does not exist", fix="use foveal pseudolabel")
    texts = dict.fromkeys(("id", "set", "sha256", "class", "model"), str)
    table = pd.read_csv(file, dtype=texts, keep_default_na=False)
    columns, missing = probability_columns(table), [column for column in NEEDED if column not in table]
    if missing or not columns:
        absent = ", ".join(missing + ["p0, p1, …"] * (not columns))
        raise FovealError("table.missing_column", f"{file} has no column {absent}", fix=AGAIN)
    if not len(table):
        raise FovealError("table.empty", f"{file} is empty", fix=f"{AGAIN} with a lower --threshold")
    if len(columns) != len(prepared.classes):
        what = f"{file} has {len(columns)} classes, but {prepared.path} has {len(prepared.classes)}"
        raise FovealError("table.other_classes", what)
    check_targets(file, table, prepared.classes)
    found = []
    for path, rows in table.groupby("set", sort=False):
        pool = open_prepared(Path(str(path)))
        check_alike([prepared, pool], "to train on both")
        records = pool.records.set_index("id", drop=False)
        known = rows[rows["id"].isin(records.index)]
        chosen = records.loc[known["id"]].reset_index(drop=True)
        if len(known) < len(rows) or (chosen["sha256"].to_numpy() != known["sha256"].to_numpy()).any():
            raise FovealError("set.changed", f"images of {path} have changed since {file} was written", fix=AGAIN)
        if len(graded := chosen[chosen["split"] != "unlabelled"]):
            first = f"{graded['id'].iloc[0]} ({graded['split'].iloc[0]})"
            what = f"{path} already has grades of {counted(len(graded), 'image')} of {file}; the first is {first}"
            raise FovealError("label.graded", what, expected="ungraded images only", fix=AGAIN)
        found.append((pool, chosen, known[columns].to_numpy(np.float32)))
    return found


def check_targets(file: Path, table: pd.DataFrame, classes: list[str]) -> None:
    """FovealError for a repeated image, invalid probabilities, or a grade that contradicts them or `classes`."""
    targets = table[probability_columns(table)].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    grades = pd.to_numeric(table["grade"], errors="coerce").to_numpy(float)
    valid = (targets >= 0).all(1) & (abs(targets.sum(1) - 1) < ROUNDED) & np.isin(grades, range(len(classes)))
    certain = targets.max(1) == 1  # the grade itself is the target: both must agree
    named = np.array([*classes, ""], dtype=object)[np.where(valid, grades, -1).astype(int)]
    for code, wrong, what in (
        ("table.repeated_id", table.duplicated(["id", "set"]).to_numpy(), "occurs twice"),
        ("table.value", ~valid | (certain & (targets.argmax(1) != grades)), "has a grade that contradicts p0, p1, …"),
        ("table.other_classes", named != table["class"].to_numpy(), "has a class name that does not match its grade"),
    ):
        for row in np.flatnonzero(wrong)[:1]:
            where = f"{file}, line {row + 2}: image {table['id'][row]}"
            raise FovealError(code, f"{where} ({table['class'][row]}) {what}", fix=AGAIN)


def teachers_seen(file: Path | None) -> pd.DataFrame:
    """What the graders that assigned the pseudo-labels were trained on; FovealError if seen.csv is missing."""
    if file is not None and not (file.parent / "seen.csv").is_file():
        what = f"seen.csv, which lists the images the graders were trained on, is missing next to {file}"
        raise FovealError("file.missing", what, fix="copy it there from the folder of the pseudo-labels")
    return read_seen("random" if file is None else str(file.parent))
