"""How well two readers agree on the judged images: the level to compare a grader with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from foveal import metrics
from foveal.errors import FovealError
from foveal.evaluate.intervals import Resampling


def second_readings(column: pd.Series, names: Sequence[str]) -> np.ndarray:
    """int [n]: the classes that a second reader gave, by number or name, -1 where the column is empty."""
    numbers = {str(number): number for number in range(len(names))} | {name: k for k, name in enumerate(names)}
    text = column.astype(object).where(column.notna(), "").astype(str).str.strip().str.removesuffix(".0")
    wrong = sorted(set(text) - set(numbers) - {""})
    if wrong:
        raise FovealError("label.value", f"--second-reader {column.name}: '{wrong[0]}' is not a class",
                          expected=f"0 to {len(names) - 1}, a name ({', '.join(names)}), or nothing")  # fmt: skip
    return text.map(numbers | {"": -1}).to_numpy(np.int64)


def agreement(table: pd.DataFrame, column: str, names: Sequence[str], resampling: Resampling) -> dict[str, Any]:
    """Quadratic kappa of labels and second readings, on the rows that have both: value, low, high, n, noise, column.

    FovealError where fewer than 2 rows have both.
    """
    second, labels = second_readings(table[column], names), table["label"].to_numpy(np.int64)
    both = second >= 0
    if both.sum() < 2:
        raise FovealError("label.none", f"--second-reader {column}: {both.sum()} of the judged images have a second "
                          "reading", expected="2 at least", fix="name another column, or leave it out")  # fmt: skip
    part = resampling.part(both)
    kappa = part.graded(metrics.quadratic_kappa, labels[both], second[both], len(names))
    return part.entry(*kappa, int(both.sum())) | {"column": column}
