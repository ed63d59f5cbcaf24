"""Referral: by a threshold that was chosen on validation images and is kept with the readout, and by macular oedema.

Without a threshold, an image is referred by its grade (scales.py), or if macular oedema is likely. With one, it is
referred if its score is at or above the threshold; its grade stays as it is.

An eye is referable from moderate retinopathy upwards or with macular oedema (Gulshan et al. 2016). With `--second
oedema` the score of a photograph is the higher of the two probabilities, and its truth is either label, where known.
Other second tasks do not affect referral.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from foveal.errors import FovealError
from foveal.page.words import counted
from foveal.sources.columns import usual_columns

BY_GRADE = "grade"
LEAST_OF_EACH = 20  # validation images with and without referable disease; with fewer, each one moves the threshold
OEDEMA, CLASSES = "oedema", ("0", "1")
ABSENT = ("0", "no", "absent", "none", "false")
PRESENT = ("1", "2", "yes", "present", "true")  # IDRiD has 1 for exudates and 2 for exudates near the fovea
UNKNOWN = ("", "na", "nan", "unknown", "ungradable")
LIKELY = 0.5  # the probability from which a photograph is referred, unless the run has a threshold


@dataclass(frozen=True, kw_only=True)
class Referral:
    """An operating point: images whose `score` is at or above the threshold are referred.

    lowest: the lowest referable class. least: the sensitivity asked for, 0-1. sensitivity, specificity: entries (value,
    low, high, n) on the images that it was chosen on; {} if unknown.
    """

    least: float
    lowest: int
    threshold: float
    sensitivity: Mapping[str, Any]
    specificity: Mapping[str, Any]


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
        raise FovealError("option.value", f"--refer-at is {asked}", expected="grade, or sensitivity=0.9 (0 to 1)")
    return least


def check_referral(least: float, lowest: int | None, labels: np.ndarray) -> None:
    """FovealError unless validation images with labels int [n] suffice to choose a threshold for this sensitivity:
    `LEAST_OF_EACH` with and without referable disease, and so many with it that missing one is not too many."""
    if lowest is None:
        raise FovealError("option.conflict", "--refer-at: no class is referable", fix="leave out --refer-at")
    positive, needed = int((labels >= lowest).sum()), max(LEAST_OF_EACH, math.ceil(1 / (1 - least) - 1e-9))
    negative = len(labels) - positive
    if positive < needed or negative < LEAST_OF_EACH:
        has = f"{counted(positive, 'validation image')} with referable disease and {negative} without"
        fix = "prepare the set with a larger --val, use --folds 5, or leave out --refer-at"
        raise FovealError("referral.too_few", f"--refer-at sensitivity={least:g}: there are {has}", fix=fix,
                          expected=f"at least {needed} with and {LEAST_OF_EACH} without")  # fmt: skip


def oedema_of(columns: pd.DataFrame) -> pd.Series | None:
    """id -> "1", "0" or "" (unknown) by all columns of macular oedema, None without; FovealError for others."""
    if not (named := usual_columns(columns, "oedema")):
        return None
    found = pd.Series("", index=columns.index)
    for name in named:
        text = columns[name].fillna("").astype(str).str.strip().str.lower().str.removesuffix(".0")
        if wrong := sorted(set(text) - {*ABSENT, *PRESENT, *UNKNOWN}):
            raise FovealError("label.value", f"column {name}: '{wrong[0]}'", expected="0 or 1, yes or no, or nothing")
        known = text.map({**dict.fromkeys(ABSENT, "0"), **dict.fromkeys(PRESENT, "1")}).fillna("")
        both = (found != "") & (known != "") & (found != known)
        if both.any():
            raise FovealError("label.conflict", f"{' and '.join(named)} contradict each other for {both.idxmax()}")
        found = found.where(found != "", known)
    return found


def is_oedema(name: str, classes: tuple[str, ...] | list[str]) -> bool:
    """Whether a second task is macular oedema; runs that learned a column with other values keep it apart."""
    return name == OEDEMA and tuple(classes) == CLASSES


def predicted_oedema(table: pd.DataFrame) -> np.ndarray | None:
    """float [n]: the probability of macular oedema in a table of predictions; None if it was not learned."""
    classes = [name.removeprefix(f"{OEDEMA}=") for name in map(str, table) if name.startswith(f"{OEDEMA}=")]
    return table[f"{OEDEMA}=1"].to_numpy(float) if OEDEMA in table and is_oedema(OEDEMA, classes) else None


def labelled_oedema(table: pd.DataFrame) -> np.ndarray:
    """bool [n]: which images are labelled with macular oedema, where a grader learned it; otherwise none."""
    known = table[OEDEMA] if predicted_oedema(table) is not None else pd.Series("", index=table.index)
    return np.asarray(known.fillna("").astype(str) == CLASSES[1])
