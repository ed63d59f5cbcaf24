"""The second task of a grader: accuracy and areas under curves, from further columns of predictions.csv.

NAME         the label of an image, empty if unknown
NAME=CLASS   the probability of each class
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from foveal.evaluate.curves import roc_area
from foveal.evaluate.intervals import Resampling


def tasks_in(table: pd.DataFrame) -> dict[str, list[str]]:
    """Name of each second task -> its classes, in the order of the columns."""
    found: dict[str, list[str]] = {}
    for column in map(str, table.columns):
        name, sign, value = column.partition("=")
        if sign and name in table:
            found.setdefault(name, []).append(value)
    return found


def measure_second(table: pd.DataFrame, resampling: Resampling) -> dict[str, Any]:
    """task -> metrics with value, low, high, n, noise and constant, for rows with a known class.

    Metrics are "accuracy" and "auc of CLASS" (with two classes, only for the second). {} without a second task.
    """
    found: dict[str, Any] = {}
    for name, classes in tasks_in(table).items():
        text = table[name].fillna("").astype(str)
        known = text.isin(classes).to_numpy()
        if known.sum() >= 2:
            probabilities = table.loc[known, [f"{name}={value}" for value in classes]].to_numpy(float)
            labels = text[known].map({value: number for number, value in enumerate(classes)}).to_numpy(np.int64)
            found[name] = _figures(probabilities, labels, classes, resampling.part(known))
    return found


def _figures(
    probabilities: np.ndarray, labels: np.ndarray, classes: list[str], resampling: Resampling
) -> dict[str, Any]:
    accuracy = resampling.mean(probabilities.argmax(1) == labels, is_share=True)
    found = {"accuracy": accuracy | {"constant": float(np.bincount(labels).max() / len(labels))}}
    for k in range(len(classes)) if len(classes) > 2 else (1,):
        area = roc_area(probabilities[:, k], labels == k, resampling)
        found[f"auc of {classes[k]}"] = resampling.entry(*area, len(labels)) | {"constant": 0.5}
    return found
