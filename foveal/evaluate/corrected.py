"""Apply corrections.csv to the labels of predictions, whether or not the run was trained with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from foveal.errors import FovealError
from foveal.sets.corrections import apply_corrections, label_of, read_corrections


def with_corrections(table: pd.DataFrame, file: Path, names: list[str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The predictions with all corrections of `file` applied, and {file, all, rows, changed}.

    Labels that are already corrected are accepted. all: number of corrections in the file; rows: those of graded
    images; changed: images whose label changed. FovealError if the file does not exist, contains none of the images,
    or corrects a label that the image never had.
    """
    if not file.is_file():
        raise FovealError("corrections.missing", f"--corrections {file} does not exist")
    changes = read_corrections(file)
    graded = changes[changes["id"].isin(table["id"])]
    if not len(graded):
        raise FovealError("corrections.no_match", f"--corrections {file} contains none of the graded images")
    corrected = apply_corrections(_before(table, graded, names), file, names, partly=True)
    changed = int((corrected["label"].astype(object).fillna(-1) != table["label"].astype(object).fillna(-1)).sum())
    return corrected, {"file": file.name, "all": len(changes), "rows": len(graded), "changed": changed}


def _before(table: pd.DataFrame, changes: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """The predictions with corrected labels reset to their value before any correction."""
    table = table.copy()
    place_of = dict(zip(table["id"], table.index, strict=True))
    for name, rows in changes.groupby("id", sort=False):
        label: Any = table["label"][place_of[name]]
        now = None if pd.isna(label) else int(label)
        first, outcomes = label_of(rows["old"].iloc[0], names), [label_of(new, names) for new in rows["new"]]
        if now != first and now in outcomes:
            table.loc[place_of[name], "label"] = first
    return table
