"""Agreement of two human readers on the evaluated images, as a benchmark for the grader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from foveal import metrics
from foveal.errors import FovealError
from foveal.evaluate.intervals import Resampling


def second_readings(column: pd.Series, names: Sequence[str]) -> np.ndarray:
    """int [n]: the grades of a second reader, from numbers or class names; -1 where the column is empty."""
    numbers = {str(number): number for number in range(len(names))} | {name: k for k, name in enumerate(names)}
    text = column.astype(object).where(column.notna(), "").astype(str).str.strip().str.removesuffix(".0")
    wrong = sorted(set(text) - set(numbers) - {""})
    if wrong:
        raise FovealError("label.value", f"--second-reader {column.name}: '{wrong[0]}' is not a class",
                          expected=f"0 to {len(names) - 1}, a class name ({', '.join(names)}), or empty")  # fmt: skip
    return text.map(numbers | {"": -1}).to_numpy(np.int64)


def agreement(table: pd.DataFrame, column: str, names: Sequence[str], resampling: Resampling) -> dict[str, Any]:
    """Quadratic kappa between labels and second readings, for rows with both: value, low, high, n, noise, column.

    FovealError if fewer than 2 rows have both.
    """
    second, labels = second_readings(table[column], names), table["label"].to_numpy(np.int64)
    both = second >= 0
    if both.sum() < 2:
        raise FovealError("label.none", f"--second-reader {column}: {both.sum()} of the evaluated images have a second "
                          "reading", expected="at least 2", fix="choose another column, or leave it out")  # fmt: skip
    part = resampling.part(both)
    kappa = part.graded(metrics.quadratic_kappa, labels[both], second[both], len(names))
    return part.entry(*kappa, int(both.sum())) | {"column": column}
