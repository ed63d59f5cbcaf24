"""Pseudo-labels: the table that `foveal pseudolabel` writes, and how `train` reads it.

OUT/pseudo_labels.csv   id, set, sha256, grade, class, p0 … pK (the target that is learned), score, round, model
OUT/seen.csv            what the graders that gave them have learned from
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from foveal.readout.predictions import probability_columns
from foveal.sets.leaks import read_seen
from foveal.sets.records import PreparedSet, check_alike, open_prepared

FILE = "pseudo_labels.csv"
NEEDED = ("id", "set", "sha256", "grade", "class", "score", "round", "model")
ROUNDED = 1e-4  # how far probabilities of six digits may be from a sum of 1
Pseudo = tuple[PreparedSet, pd.DataFrame, np.ndarray]  # set, its records, targets float [m, K]


def read_pseudo(file: Path, prepared: PreparedSet) -> list[Pseudo]:
    """Pseudo-labelled images, set by set, to be learned from beside `prepared`.

    Raises ValueError where the table is none, its images have changed, have a label of their own, or are judged.
    """
    table = read_table(file)
    columns = probability_columns(table)
    if len(columns) != len(prepared.classes):
        raise ValueError(f"{file} is for {len(columns)} classes, {prepared.path} has {len(prepared.classes)}")
    check_targets(file, table, prepared.classes)
    found = []
    for path, rows in table.groupby("set", sort=False):
        pool = open_prepared(Path(str(path)))
        check_alike([prepared, pool], "to learn from both")
        records = pool.records.set_index("id", drop=False)
        known = rows[rows["id"].isin(records.index)]
        chosen = records.loc[known["id"]].reset_index(drop=True)
        changed = len(known) < len(rows) or (chosen["sha256"].to_numpy() != known["sha256"].to_numpy()).any()
        if changed:
            raise ValueError(f"{file}: images of {path} are no longer what they were; make the pseudo-labels again")
        graded = chosen[chosen["split"] != "unlabelled"]
        if len(graded):
            raise ValueError(
                f"{file}: {len(graded)} images have a grade of their own in {path}, {graded['id'].iloc[0]} "
                f"({graded['split'].iloc[0]}) first; only ungraded images take a pseudo-label"
            )
        found.append((pool, chosen, known[columns].to_numpy(np.float32)))
    return found


def check_targets(file: Path, table: pd.DataFrame, classes: list[str]) -> None:
    """ValueError for rows that stand twice, targets that are none, or grades of other or otherwise ordered classes."""
    targets = table[probability_columns(table)].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    grades = pd.to_numeric(table["grade"], errors="coerce").to_numpy(float)
    twice = table.duplicated(["id", "set"])
    valid = (targets >= 0).all(1) & (abs(targets.sum(1) - 1) < ROUNDED) & np.isin(grades, range(len(classes)))
    certain = targets.max(1) == 1  # the grade itself is the target: both must say the same
    wrong = ~valid | (certain & (targets.argmax(1) != grades))
    if twice.any() or wrong.any():
        row = int(np.flatnonzero(twice if twice.any() else wrong)[0])
        what = "stands twice" if twice.any() else "has no grade that its p0, p1, … say, or they do not sum to 1"
        raise ValueError(f"{file}: line {row + 2}, image {table['id'][row]}, {what}; make the pseudo-labels again")
    named = np.array(classes, dtype=object)[grades.astype(int)]
    other = np.flatnonzero(named != table["class"].to_numpy())
    if len(other):
        row = other[0]
        raise ValueError(
            f"{file}: grade {int(grades[row])} is '{table['class'][row]}' there, and '{named[row]}' in the set that is "
            "learned from; both need the same classes in the same order"
        )


def read_table(file: Path) -> pd.DataFrame:
    """pseudo_labels.csv; ValueError where it is none."""
    if not file.is_file():
        raise ValueError(f"--pseudo-labels {file}: there is no such file; `foveal pseudolabel` writes one")
    texts = dict.fromkeys(("id", "set", "sha256", "class", "model"), str)
    table = pd.read_csv(file, dtype=texts, keep_default_na=False)
    missing = [column for column in NEEDED if column not in table]
    if missing or not probability_columns(table):
        raise ValueError(f"{file} holds no pseudo-labels: missing column {', '.join(missing) or 'p0, p1, …'}")
    if not len(table):
        raise ValueError(f"{file} is empty: no image was sure enough")
    return table


def teachers_seen(file: Path | None) -> pd.DataFrame:
    """What the graders that gave the pseudo-labels have learned from, with the columns of seen.csv.

    Raises ValueError where that file does not lie beside the table: nobody could tell what has leaked.
    """
    if file is not None and not (file.parent / "seen.csv").is_file():
        raise ValueError(f"--pseudo-labels {file}: seen.csv is not beside it, which says what its graders learned from")
    return read_seen("random" if file is None else str(file.parent))
