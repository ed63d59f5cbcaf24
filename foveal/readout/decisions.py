"""Decisions: how a grade follows from the calibrated probabilities [n, K] of ordered grades.

most_probable   the class with the highest probability: the most correct grades, but errors may be large
expected        the expected grade sum_k k p_k, rounded half-way: the smallest squared error, but few correct grades
                where the probabilities are spread, as on photographs of another camera
sharpened       the same with probabilities p_k^3, scaled to sum to 1: between the two, and the default
median          the lowest grade that at least half of the probability does not exceed: the smallest absolute error; it
                is only compared with the others

Cutoffs replace half-way rounding on the scale of the expected grade. benchmarks/decisions.py compares the rules.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foveal.errors import FovealError

DECISIONS = ("most_probable", "expected", "sharpened")
POWER = 3  # a saved readout has only the name of its rule, so another power needs another name
ALMOST = 1e-9  # a cumulative probability this close to one half counts as half


def half_way(classes: int) -> tuple[float, ...]:
    """0.5, 1.5, … K - 1.5."""
    return tuple(k + 0.5 for k in range(classes - 1))


def expected_grades(probabilities: np.ndarray) -> np.ndarray:
    """sum_k k p_k of probabilities [n, K]: float [n]."""
    return np.asarray(probabilities @ np.arange(probabilities.shape[1]))


def place_of(probabilities: np.ndarray, decision: str) -> np.ndarray:
    """Where images with probabilities [n, K] lie between grade 0 and K - 1, on the scale of cutoffs: float [n]."""
    if decision != "sharpened":
        return expected_grades(probabilities)
    powers = probabilities**POWER
    return expected_grades(powers) / powers.sum(1)


def cut(places: np.ndarray, cutoffs: Sequence[float]) -> np.ndarray:
    """Grades int [n]: the number of cutoffs at or below each place."""
    return np.searchsorted(np.asarray(cutoffs), places, side="right")


def medians(probabilities: np.ndarray) -> np.ndarray:
    """Grades int [n]: the median of each distribution [n, K], the lower of two."""
    return np.asarray((probabilities.cumsum(1)[:, :-1] < 0.5 - ALMOST).sum(1))


def decide(probabilities: np.ndarray, decision: str, cutoffs: Sequence[float] | None = None) -> np.ndarray:
    """Grades int [n] from calibrated probabilities [n, K]; cutoffs [K - 1], None for half-way.

    FovealError if the decision is unknown, as in files of a later version.
    """
    if decision not in DECISIONS:
        raise FovealError("option.value", f"decision '{decision}' is unknown", expected=" or ".join(DECISIONS))
    if decision == "most_probable":
        return probabilities.argmax(1)
    return cut(place_of(probabilities, decision), cutoffs or half_way(probabilities.shape[1]))
