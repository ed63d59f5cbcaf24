"""The same probabilities, read by every rule that gives ordered grades: kappa and accuracy side by side.

given       the grades in the table
argmax, half-way, median, sharpened
            the fixed rules of readout/decisions.py
fitted      the sharpened rule with cutoffs fitted on validation images that are not evaluated; without these, on the
            evaluated images of other groups
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from foveal import metrics
from foveal.evaluate.intervals import Resampling
from foveal.readout.cutoffs import out_of_fold, shrunk_cutoffs
from foveal.readout.decisions import cut, decide, medians, place_of
from foveal.readout.predictions import probability_columns
from foveal.readout.readout import LEAST_IMAGES


def measure_rules(table: pd.DataFrame, chosen_on: pd.DataFrame, resampling: Resampling) -> dict[str, Any]:
    """rule -> {quadratic_kappa, accuracy}, of labelled rows with ordered grades.

    chosen_on: labelled validation rows that are not evaluated, maybe none.
    """
    probabilities, labels = _read(table)
    places, truth = place_of(probabilities, "sharpened"), np.eye(probabilities.shape[1])
    if len(chosen_on) >= LEAST_IMAGES:
        others, known = _read(chosen_on)
        fitted = cut(places, shrunk_cutoffs(place_of(others, "sharpened"), truth[known]))
    else:
        fitted = out_of_fold(places, truth[labels], resampling.units)
    rules = {
        "given": table["grade"].to_numpy(np.int64), "argmax": decide(probabilities, "most_probable"),
        "half-way": decide(probabilities, "expected"), "median": medians(probabilities),
        "sharpened": decide(probabilities, "sharpened"), "fitted": fitted,
    }  # fmt: skip
    return {
        rule: {"quadratic_kappa": resampling.of_grades(metrics.quadratic_kappa, labels, grades, len(truth)),
               "accuracy": resampling.mean(labels == grades, is_share=True)}
        for rule, grades in rules.items()
    }  # fmt: skip


def _read(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [n, K] and labels int [n]."""
    return table[probability_columns(table)].to_numpy(float), table["label"].to_numpy(np.int64)
