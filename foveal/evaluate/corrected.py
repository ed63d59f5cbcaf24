"""Corrected labels of predictions: those of corrections.csv, known or not when the run was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from foveal.sets.corrections import apply_corrections, label_of, read_corrections


def with_corrections(table: pd.DataFrame, file: Path, names: list[str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The predictions with all corrections of `file` made, and {file, all, rows, changed}.

    A run that was trained after a correction has the new label already; that is no error. all: rows of the file, of
    which `rows` name graded images; changed: images whose label is another one now. Raises ValueError for a file that
    is not there, names none of the images, or speaks of labels that the images never had.
    """
    if not file.is_file():
        raise ValueError(f"--corrections {file}: there is no such file")
    changes = read_corrections(file)
    graded = changes[changes["id"].isin(table["id"])]
    if not len(graded):
        raise ValueError(f"--corrections {file} names none of the images that were graded")
    corrected = apply_corrections(_before(table, graded, names), file, names, partly=True)
    changed = int((corrected["label"].astype(object).fillna(-1) != table["label"].astype(object).fillna(-1)).sum())
    return corrected, {"file": file.name, "all": len(changes), "rows": len(graded), "changed": changed}


def _before(table: pd.DataFrame, changes: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The predictions with the labels from before any correction, where what they have is the outcome of one."""
    table = table.copy()
    place_of = dict(zip(table["id"], table.index, strict=True))
    for name, rows in changes.groupby("id", sort=False):
        place = place_of[name]
        label: Any = table["label"][place]
        now = None if pd.isna(label) else int(label)
        first, outcomes = label_of(rows["old"].iloc[0], names), [label_of(new, names) for new in rows["new"]]
        if now != first and now in outcomes:
            table.loc[place, "label"] = first
    return table
