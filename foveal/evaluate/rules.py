"""Ordered grades, read from the same probabilities by every rule.

As given; by the fixed rules of readout/decisions.py (argmax, half-way, median, sharpened); and by the sharpened rule
with cutoffs fitted on validation images that are not evaluated, or else on the evaluated images of other groups.
"""

from typing import Any

import numpy as np
import pandas as pd

from foveal import metrics
from foveal.evaluate.intervals import Resampling
from foveal.readout import decisions
from foveal.readout.predictions import probability_columns
from foveal.readout.readout import LEAST_IMAGES


def measure_rules(table: pd.DataFrame, chosen_on: pd.DataFrame, resampling: Resampling) -> dict[str, Any]:
    """rule -> {quadratic_kappa, accuracy}, of labelled rows; chosen_on: validation rows that are not evaluated."""
    probabilities, labels = _read(table)
    places, truth = decisions.place_of(probabilities, "sharpened"), np.eye(probabilities.shape[1])
    if len(chosen_on) >= LEAST_IMAGES:
        others, known = _read(chosen_on)
        fitted = decisions.cut(places, decisions.shrunk_cutoffs(decisions.place_of(others, "sharpened"), truth[known]))
    else:
        fitted = decisions.out_of_fold(places, truth[labels], resampling.units)
    rules = {
        "given": table["grade"].to_numpy(np.int64), "argmax": decisions.decide(probabilities, "most_probable"),
        "half-way": decisions.decide(probabilities, "expected"), "median": decisions.medians(probabilities),
        "sharpened": decisions.decide(probabilities, "sharpened"), "fitted": fitted,
    }  # fmt: skip
    return {
        rule: {"quadratic_kappa": resampling.of_grades(metrics.quadratic_kappa, labels, grades, len(truth)),
               "accuracy": resampling.mean(labels == grades, is_share=True)}
        for rule, grades in rules.items()
    }  # fmt: skip


def _read(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [n, K] and labels int [n]."""
    return table[probability_columns(table)].to_numpy(float), table["label"].to_numpy(np.int64)
