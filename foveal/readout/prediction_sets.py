"""Prediction sets that contain the true grade with a given coverage: class-conditional conformal prediction.

Each class has a limit: a share `coverage` of its calibration images give it at least this probability. A set contains
the classes whose probability reaches their limit (Vovk 2012, https://proceedings.mlr.press/v25/vovk12.html). Every
class, including rare ones, then has this coverage, if new images are like the calibration images. Sets of ordered
grades have no gaps: grades between two members are added, which can only increase coverage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from foveal.errors import FovealError

SAME = 1e-5  # probabilities that differ by less count as equal


def fit_limits(probabilities: np.ndarray, labels: np.ndarray, coverage: float) -> tuple[float, ...]:
    """The limit of each class [K]: the lowest probability with which it enters a set, from calibration images.

    It is 0 for a class with fewer than coverage / (1 - coverage) images: the class is then in every set, because no
    higher limit guarantees the coverage.
    """
    limits = []
    for k in range(probabilities.shape[1]):
        own = np.sort(probabilities[labels == k, k])[::-1]
        rank = math.ceil(coverage * (len(own) + 1) - 1e-9)
        limits.append(float(own[rank - 1]) if rank <= len(own) else 0.0)
    return tuple(limits)


def sets_of(probabilities: np.ndarray, grades: np.ndarray, limits: Sequence[float], ordered: bool) -> np.ndarray:
    """bool [n, K]: the classes in the set of each image, always including its grade; without gaps if `ordered`."""
    # A limit equals the probability of a calibration image, which an exported file reproduces only to six digits.
    members = probabilities >= np.asarray(limits) - SAME
    members[np.arange(len(grades)), grades] = True
    if not ordered:
        return members
    from_below = np.logical_or.accumulate(members, axis=1)
    from_above = np.logical_or.accumulate(members[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(from_below & from_above)


def as_words(members: np.ndarray) -> list[str]:
    """Sets bool [n, K] as in predictions.csv: class numbers separated by spaces, "1 2"."""
    return [" ".join(map(str, np.flatnonzero(row))) for row in members]


def from_words(column: pd.Series, classes: int) -> np.ndarray:
    """The column `set` of predictions.csv: bool [n, K]; FovealError for anything but class numbers."""
    members = np.zeros((len(column), classes), bool)
    for row, words in enumerate(column.fillna("").astype(str)):
        for word in words.split():
            if not word.isdigit() or int(word) >= classes:
                raise FovealError("predictions.value", f"column set contains '{words}'",
                                  expected=f"class numbers 0 to {classes - 1}, separated by spaces")  # fmt: skip
            members[row, int(word)] = True
    return members
