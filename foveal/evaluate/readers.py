"""How far two readers agree on the judged images: the level that a grader is to be held against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from foveal import metrics
from foveal.evaluate.intervals import Resampling


def second_readings(column: pd.Series, names: Sequence[str]) -> np.ndarray:
    """int [n]: the classes that a second reader gave, -1 where the column is empty.

    The column holds class numbers or names. Raises ValueError for anything else.
    """
    numbers = {str(number): number for number in range(len(names))} | {name: k for k, name in enumerate(names)}
    text = column.astype(object).where(column.notna(), "").astype(str).str.strip().str.removesuffix(".0")
    wrong = sorted(set(text) - set(numbers) - {""})
    if wrong:
        raise ValueError(
            f"--second-reader {column.name}: '{wrong[0]}' is no class; give numbers 0 to {len(names) - 1} or the names "
            f"{', '.join(names)}, and nothing where the second reader has not looked"
        )
    return text.map(numbers | {"": -1}).to_numpy(np.int64)


def agreement(table: pd.DataFrame, column: str, names: Sequence[str], resampling: Resampling) -> dict[str, Any]:
    """Quadratic kappa of labels and second readings, on the rows that have both: value, low, high, n, noise, column.

    From the resamples of the other figures. Raises ValueError where fewer than 2 rows have both.
    """
    second, labels = second_readings(table[column], names), table["label"].to_numpy(np.int64)
    both = second >= 0
    if both.sum() < 2:
        raise ValueError(f"--second-reader {column}: {both.sum()} of the judged images have a second reading, of 2 at "
                         "least; leave it out, or give the column that holds them")  # fmt: skip
    labels, second = labels[both], second[both]
    part = resampling.part(both)
    kappa = part.graded(metrics.quadratic_kappa, labels, second, len(names))
    return part.entry(*kappa, int(both.sum())) | {"column": column}
