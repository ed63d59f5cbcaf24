"""Macular oedema, learned as a second task: which columns hold it, and how it makes a photograph referable.

An eye is referable from moderate retinopathy upwards or with macular oedema (Gulshan et al. 2016). With `--second
oedema` the score of a photograph is the higher of the two probabilities, and its truth is either label, where known.
Other second tasks only stand beside the grade.
"""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from foveal.errors import FovealError

OEDEMA, CLASSES = "oedema", ("0", "1")
COLUMNS = (
    "oedema", "edema", "macular_oedema", "macular_edema", "dme", "adjudicated_dme", "maculopathy",
    "risk_of_macular_edema",
)  # fmt: skip
ABSENT = ("0", "no", "absent", "none", "false")
PRESENT = ("1", "2", "yes", "present", "true")  # IDRiD has 1 for exudates and 2 for exudates near the fovea
UNKNOWN = ("", "na", "nan", "unknown", "ungradable")
LIKELY = 0.5  # the probability from which a photograph is referred, unless the run has a threshold


def oedema_of(columns: pd.DataFrame) -> pd.Series | None:
    """id -> "1", "0" or "" (unknown), from all columns of a set that hold macular oedema; None if there are none.

    FovealError for a value that says neither, or for two columns that contradict each other.
    """
    named = [str(name) for name in columns if re.sub(r"[\s-]+", "_", str(name).strip().lower()) in COLUMNS]
    if not named:
        return None
    found = pd.Series("", index=columns.index)
    for name in named:
        text = columns[name].fillna("").astype(str).str.strip().str.lower().str.removesuffix(".0")
        if wrong := sorted(set(text) - {*ABSENT, *PRESENT, *UNKNOWN}):
            what = f"the column '{name}' of macular oedema has '{wrong[0]}'"
            raise FovealError("label.value", what, expected="0 or 1, yes or no, or nothing where it is unknown")
        known = text.map({**dict.fromkeys(ABSENT, "0"), **dict.fromkeys(PRESENT, "1")}).fillna("")
        both = (found != "") & (known != "") & (found != known)
        if both.any():
            what = f"the columns {' and '.join(named)} contradict each other for {both.idxmax()}"
            raise FovealError("label.conflict", what, fix="correct one of them")
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
