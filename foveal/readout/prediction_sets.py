"""Sets of grades that hold the true one as often as promised: conformal prediction, for each class by itself.

Of the calibration images of a class, a share `coverage` has at least a certain probability of their true class; a
class is in the set of a new image when its probability reaches that limit (class-conditional conformal prediction:
Vovk 2012, https://proceedings.mlr.press/v25/vovk12.html). So images of every class, the rare ones too, are covered, if
new images come from where the calibration images came from. A set of ordered grades has no gaps: what lies
between two of its members is filled in, which can only raise its coverage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from foveal.errors import FovealError

SAME = 1e-5  # probabilities that differ by less are the same


def fit_limits(probabilities: np.ndarray, labels: np.ndarray, coverage: float) -> tuple[float, ...]:
    """The least probability [K] with which each class enters a set, from calibration images.

    0 for a class with fewer than coverage / (1 - coverage) images: it is then in every set, since no higher limit
    could keep the promise.
    """
    limits = []
    for k in range(probabilities.shape[1]):
        own = np.sort(probabilities[labels == k, k])[::-1]
        rank = math.ceil(coverage * (len(own) + 1) - 1e-9)
        limits.append(float(own[rank - 1]) if rank <= len(own) else 0.0)
    return tuple(limits)


def sets_of(probabilities: np.ndarray, grades: np.ndarray, limits: Sequence[float], ordered: bool) -> np.ndarray:
    """bool [n, K]: the classes in the set of each image, always with its given grade; ordered classes without a gap."""
    # A limit is the probability of a calibration image; an exported file reproduces it to six digits only.
    members = probabilities >= np.asarray(limits) - SAME
    members[np.arange(len(grades)), grades] = True
    if not ordered:
        return members
    from_below = np.logical_or.accumulate(members, axis=1)
    from_above = np.logical_or.accumulate(members[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(from_below & from_above)


def as_words(members: np.ndarray) -> list[str]:
    """Sets bool [n, K] as in predictions.csv: class numbers with spaces between, "1 2"."""
    return [" ".join(map(str, np.flatnonzero(row))) for row in members]


def from_words(column: pd.Series, classes: int) -> np.ndarray:
    """The column `set` of predictions.csv: bool [n, K]; FovealError for anything but class numbers."""
    members = np.zeros((len(column), classes), bool)
    for row, words in enumerate(column.fillna("").astype(str)):
        for word in words.split():
            if not word.isdigit() or int(word) >= classes:
                raise FovealError("predictions.value", f"column set holds '{words}'",
                                  expected=f"class numbers 0 to {classes - 1} with spaces between")  # fmt: skip
            members[row, int(word)] = True
    return members
