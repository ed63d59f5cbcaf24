"""Metrics for subgroups of the images: by eye, flag, size, clinic or any other column.

A column comes from predictions.csv or, joined by id, from records.csv, measures.csv or columns.csv of the prepared set.
In a joined set, `source` is the first part of an id: the set that the image came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foveal import metrics
from foveal.errors import FovealError
from foveal.evaluate.curves import roc_area
from foveal.evaluate.intervals import Resampling
from foveal.evaluate.operating import severity
from foveal.readout.scales import Scale, referred

FEW_IMAGES, FEW_GROUPS = 50, 10  # a subgroup with fewer is marked small: its interval is wide or unreliable
MOST_VALUES = 12  # numbers with more different values are split at their quartiles; text with more is refused


def join_records(table: pd.DataFrame, data: Path | None, columns: Sequence[str], option: str = "--by") -> pd.DataFrame:
    """The predictions with `columns` joined by id from DATA/records.csv, measures.csv and columns.csv.

    option: the option that names the columns. FovealError if a column does not exist, or if images are not in the set.
    """
    table = table.copy()
    sources = [] if data is None else [_read(data / name) for name in ("records.csv", "measures.csv", "columns.csv")]
    if "source" in columns and "source" not in table and table["id"].str.contains("/").all():
        table["source"] = table["id"].str.partition("/")[0]
    for column in columns:
        if column in table:
            continue
        source = next((source for source in sources if column in source), None)
        if source is None:
            there = dict.fromkeys([*table.columns, *(name for source in sources for name in source.columns)])
            raise FovealError("option.value", f"{option} {column}: there is no such column", expected=", ".join(there),
                              fix="" if data else "name the prepared set with --records DATA")  # fmt: skip
        missing = table["id"][~table["id"].isin(source.index)]
        if len(missing):
            raise FovealError("set.other_images", f"--records {data} does not contain {len(missing)} of the images; "
                              f"the first is {missing.iloc[0]}")  # fmt: skip
        table[column] = source[column].loc[table["id"]].to_numpy()
    return table


def _read(file: Path) -> pd.DataFrame:
    if not file.is_file():
        if file.name == "records.csv":
            raise FovealError("set.missing", f"--records {file.parent} is not a prepared set: it has no records.csv")
        return pd.DataFrame()
    table = pd.read_csv(file, keep_default_na=False, dtype={"id": str, "flags": str, "eye": str, "group": str})
    return table.drop_duplicates("id").set_index("id")


def members(values: pd.Series, column: str) -> dict[str, np.ndarray]:
    """value -> bool [n]: the members of each subgroup of a column. Each flag is a subgroup; "none" has no flags.

    Numbers with more than 12 different values are split at their quartiles; FovealError for text with more than 12.
    """
    text = values.astype(object).where(values.notna(), "").astype(str)
    numbers = pd.to_numeric(values.where(text != ""), errors="coerce").astype(float)
    if column == "flags":
        words = text.str.split()
        flags = sorted({word for row in words for word in row})
        return {**{flag: words.map(lambda row, flag=flag: flag in row).to_numpy(bool) for flag in flags},
                "none": (text.str.strip() == "").to_numpy(bool)}  # fmt: skip
    named = text.replace("", "unknown")
    if named.nunique() <= MOST_VALUES:
        order = pd.DataFrame({"number": numbers, "name": named}).drop_duplicates("name").sort_values(["number", "name"])
        return {value: (named == value).to_numpy(bool) for value in order["name"]}
    if numbers.notna().sum() < 0.5 * len(numbers):
        raise FovealError("option.value", f"--by {column}: there are {named.nunique()} different values",
                          expected=f"at most {MOST_VALUES}, or numbers")  # fmt: skip
    edges = np.unique(np.quantile(numbers.dropna(), (0, 0.25, 0.5, 0.75, 1)))
    places = np.searchsorted(edges[1:-1], numbers, side="right")
    found = {f"{low:.4g} to {high:.4g}": (places == k) & numbers.notna().to_numpy()
             for k, (low, high) in enumerate(pairwise(edges))}  # fmt: skip
    return found if numbers.notna().all() else {**found, "unknown": numbers.isna().to_numpy()}


def subgroups(
    table: pd.DataFrame, columns: Sequence[str], scale: Scale, resampling: Resampling
) -> list[dict[str, Any]]:
    """Metrics of every subgroup of labelled rows, with the resamples of all rows.

    Kappa, accuracy, referable AUC, and sensitivity and specificity of the grades for referable disease.
    """
    found = []
    for column in columns:
        for value, chosen in members(table[column], column).items():
            if not chosen.any():
                continue
            part = resampling.part(chosen)
            small = int(chosen.sum()) < FEW_IMAGES or part.groups < FEW_GROUPS
            found.append({"column": column, "value": value, "n": int(chosen.sum()), "groups": part.groups,
                          "small": small, "metrics": _figures(table[chosen], scale, part)})  # fmt: skip
    return found


def _figures(table: pd.DataFrame, scale: Scale, resampling: Resampling) -> dict[str, Any]:
    labels, grades = table["label"].to_numpy(np.int64), table["grade"].to_numpy(np.int64)
    found = {}
    if scale.ordered:
        kappa = resampling.graded(metrics.quadratic_kappa, labels, grades, len(scale.names))
        found["quadratic_kappa"] = resampling.entry(*kappa, len(table))
    found["accuracy"] = resampling.mean(grades == labels, is_share=True)
    if "referable" in scale.cuts:
        called, true = (referred(given, scale.cuts["referable"]) for given in (grades, labels))
        found["sensitivity"] = resampling.mean(called, true, is_share=True)
        found["specificity"] = resampling.mean(~called, ~true, is_share=True)
        area = roc_area(*severity(table, scale.cuts["referable"]), resampling)
        found["referable_auc"] = resampling.entry(*area, len(table))
    return found
