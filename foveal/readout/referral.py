"""Referral by a threshold: an operating point that was chosen on validation images and is kept with the readout.

Without one, an image is referred by its grade (scales.py), or if macular oedema is likely (oedema.py). With one, it is
referred if its score is at or above the threshold; its grade stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from foveal.errors import FovealError
from foveal.page.words import counted

BY_GRADE = "grade"
LEAST_OF_EACH = 20  # validation images with and without referable disease; with fewer, each one moves the threshold


@dataclass(frozen=True, kw_only=True)
class Referral:
    """An operating point. lowest: the lowest referable class. least: the sensitivity asked for, 0-1.

    sensitivity, specificity: entries (value, low, high, n) on the images that it was chosen on; {} if unknown.
    """

    least: float
    lowest: int
    threshold: float
    sensitivity: Mapping[str, Any]
    specificity: Mapping[str, Any]

    def referred(self, probabilities: np.ndarray, oedema: np.ndarray | None = None) -> np.ndarray:
        """bool [n]: which images are referred; probabilities, oedema: as in `score`."""
        return score(probabilities, self.lowest, oedema) >= self.threshold


def score(probabilities: np.ndarray, lowest: int, oedema: np.ndarray | None = None) -> np.ndarray:
    """float [n]: the summed calibrated probability [n, K] of the classes from `lowest` upwards, or of macular oedema
    [n], if that was learned and is higher."""
    grade = probabilities[:, lowest:].astype(float).sum(1)
    return np.asarray(grade if oedema is None else np.maximum(grade, oedema))


def least_sensitivity(asked: str) -> float | None:
    """The sensitivity in `--refer-at sensitivity=0.9`; None for `grade`. FovealError for anything else."""
    if asked == BY_GRADE:
        return None
    name, _, number = asked.partition("=")
    try:
        least = float(number)
    except ValueError:
        least = math.nan
    if name != "sensitivity" or not 0 < least < 1:
        expected = "grade, or sensitivity=0.9 or another number between 0 and 1"
        raise FovealError("option.value", f"--refer-at is {asked}", expected=expected)
    return least


def check_referral(least: float, lowest: int | None, labels: np.ndarray) -> None:
    """FovealError unless validation images with labels int [n] suffice to choose a threshold for this sensitivity:
    `LEAST_OF_EACH` with and without referable disease, and so many with it that missing one is not too many."""
    if lowest is None:
        what = "--refer-at needs grades of which some are referable, and these classes have none"
        raise FovealError("option.conflict", what, fix="leave out --refer-at")
    positive, needed = int((labels >= lowest).sum()), max(LEAST_OF_EACH, math.ceil(1 / (1 - least) - 1e-9))
    negative = len(labels) - positive
    if positive < needed or negative < LEAST_OF_EACH:
        has = f"{counted(positive, 'validation image')} with referable disease and {negative} without"
        raise FovealError(
            "referral.too_few", f"--refer-at sensitivity={least:g}: there are {has}",
            expected=f"at least {needed} with and {LEAST_OF_EACH} without",
            fix="prepare the set with a larger --val, use --folds 5, or leave out --refer-at",
        )  # fmt: skip
