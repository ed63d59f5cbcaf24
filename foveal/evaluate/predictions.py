"""predictions.csv: the one input of metrics and reports; read strictly, so that a wrong file cannot pass.

Columns: id, label (may be empty), p0 … pK, grade, referable (0 or 1, empty without a severity scale), group, split.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

SUM_TOLERANCE = 1e-3


def read_predictions(file: Path) -> pd.DataFrame:
    """Read and check a table of predictions; ValueError says what is wrong with it."""
    if not file.is_file():
        raise ValueError(f"{file}: there is no such file; make one with: foveal predict RUN IMAGES --out {file}")
    text = dict.fromkeys(("id", "group", "split"), str)
    table = pd.read_csv(file, dtype=text, keep_default_na=False, na_values={"label": [""], "referable": [""]})
    missing = [column for column in ("id", "label", "grade", "referable", "group", "split") if column not in table]
    columns = probability_columns(table)
    if missing or len(columns) < 2:
        wanted = ", ".join(missing) or "p0, p1, …"
        raise ValueError(f"{file}: missing column {wanted}; found {', '.join(map(str, table.columns))}")
    if not len(table):
        raise ValueError(f"{file} holds no predictions")
    repeated = table["id"][table["id"].duplicated()]
    if len(repeated):
        raise ValueError(f"{file}: ids must be unique, but {', '.join(repeated.unique()[:5])} stand(s) more than once")
    _check_values(table, columns, file)
    return table.astype({"label": "Int64", "grade": "int64", "referable": "Int64"})


def _check_values(table: pd.DataFrame, columns: list[str], file: Path) -> None:
    numbers = table[columns].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    bad = ~np.isfinite(numbers).all(1) | (numbers < 0).any(1) | (abs(numbers.sum(1) - 1) > SUM_TOLERANCE)
    if bad.any():
        raise ValueError(
            f"{file}: the probabilities of {int(bad.sum())} rows are no probabilities (0-1, summing to 1); "
            f"the first is {table['id'][bad].iloc[0]}"
        )
    for column in ("label", "grade"):
        values = pd.to_numeric(table[column], errors="coerce")
        wrong = (values.isna() & ((column == "grade") | table[column].notna())) | (values % 1 != 0) & values.notna()
        if (wrong | (values < 0) | (values >= len(columns))).any():
            raise ValueError(f"{file}: column {column} must hold whole numbers 0..{len(columns) - 1}")


def probability_columns(table: pd.DataFrame) -> list[str]:
    """["p0", "p1", …], in class order."""
    found = {str(column) for column in table.columns if re.fullmatch(r"p\d+", str(column))}
    return [f"p{number}" for number in range(len(found)) if f"p{number}" in found]


def units(table: pd.DataFrame) -> np.ndarray:
    """int [n]: what the bootstrap draws; images of one group share a number, others have their own."""
    own = pd.Series([f"\0{number}" for number in range(len(table))], index=table.index)
    return pd.factorize(table["group"].where(table["group"] != "", own))[0]
