"""Pseudo-labels: the table that `foveal pseudolabel` writes, and how `train` reads it.

OUT/pseudo_labels.csv   id, set, sha256, grade, p0 … pK (the target that is learned), score, round, model
OUT/seen.csv            what the graders that gave them have learned from
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from foveal.data.leaks import read_seen
from foveal.data.records import PreparedSet, check_alike, open_prepared
from foveal.evaluate.predictions import probability_columns

FILE = "pseudo_labels.csv"
NEEDED = ("id", "set", "sha256", "grade", "score", "round", "model")
Pseudo = tuple[PreparedSet, pd.DataFrame, np.ndarray]  # set, its records, targets float [m, K]


def read_pseudo(file: Path, prepared: PreparedSet) -> list[Pseudo]:
    """Pseudo-labelled images, set by set, to be learned from beside `prepared`.

    Raises ValueError where the table is none, its images have changed, have a label of their own, or are judged.
    """
    table = read_table(file)
    columns = probability_columns(table)
    if len(columns) != len(prepared.classes):
        raise ValueError(f"{file} is for {len(columns)} classes, {prepared.path} has {len(prepared.classes)}")
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


def read_table(file: Path) -> pd.DataFrame:
    """pseudo_labels.csv; ValueError where it is none."""
    if not file.is_file():
        raise ValueError(f"--pseudo-labels {file}: there is no such file; `foveal pseudolabel` writes one")
    table = pd.read_csv(file, dtype={"id": str, "set": str, "sha256": str, "model": str})
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
