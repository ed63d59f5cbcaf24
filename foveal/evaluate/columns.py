"""What further columns of predictions.csv show: a second task, prediction sets, and a second reader.

NAME         the label of an image in the second task, empty if unknown
NAME=CLASS   the probability of each class of the second task
set          the grades that readout.json promises to contain the true one, with the coverage given there
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from foveal import metrics
from foveal.errors import FovealError
from foveal.evaluate.curves import roc_area
from foveal.evaluate.intervals import Resampling
from foveal.readout.readout import from_words


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


def measure_sets(table: pd.DataFrame, names: Sequence[str], resampling: Resampling) -> dict[str, Any]:
    """Coverage overall and per class, mean size, and share of sets with one grade, for labelled rows with a set.

    Empty if no row has a set. Each figure has value, low, high, n and noise.
    """
    if "set" not in table:
        return {}
    members, labels = from_words(table["set"], len(names)), table["label"].to_numpy(np.int64)
    having = np.any(members, axis=1)
    if not having.any():
        return {}
    members, labels, resampling = members[having], labels[having], resampling.part(having)
    inside, size = members[np.arange(len(labels)), labels], members.sum(1)
    found = {
        "coverage": resampling.mean(inside, is_share=True),
        "size": resampling.mean(size),
        "single": resampling.mean(size == 1, is_share=True),
    }
    for k, name in enumerate(names):
        if (labels == k).any():
            found[f"coverage of {name}"] = resampling.mean(inside, labels == k, is_share=True)
    return found


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
