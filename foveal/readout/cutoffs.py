"""Cutoffs: the boundaries between grades on the scale of the expected grade, fitted for quadratic kappa.

The expected grade of a network is biased towards the middle, so the best cutoffs are not half-way between grades. They
are fitted on images used neither for training nor for the reported results.
"""

from __future__ import annotations

import numpy as np

from foveal.metrics import quadratic_kappa

CANDIDATES = 200  # places tried for each cutoff; more would hardly change kappa
ROUNDS = 20


def half_way(classes: int) -> tuple[float, ...]:
    """0.5, 1.5, … K - 1.5."""
    return tuple(k + 0.5 for k in range(classes - 1))


def expected_grades(probabilities: np.ndarray) -> np.ndarray:
    """sum_k k p_k of probabilities [n, K]: float [n]."""
    return np.asarray(probabilities @ np.arange(probabilities.shape[1]))


def cut(expected: np.ndarray, cutoffs: tuple[float, ...]) -> np.ndarray:
    """Grades int [n]: the number of cutoffs at or below each expected grade."""
    return np.searchsorted(np.asarray(cutoffs), expected, side="right")


def fit_cutoffs(expected: np.ndarray, truth: np.ndarray) -> tuple[float, ...]:
    """K - 1 ordered cutoffs of expected grades [n] with the highest quadratic kappa against the truth [n, K].

    The truth is either one-hot labels or calibrated probabilities. With probabilities, cutoffs depend less on the few
    images near a cutoff and give a better kappa on new images (docs/log.md). Each cutoff in turn moves to its best
    place between its neighbours, until kappa no longer improves. Among equally good places, the median is used.
    """
    classes, order = truth.shape[1], np.argsort(expected)
    ordered, sums = expected[order], np.concatenate([np.zeros((1, classes)), truth[order].cumsum(0)])
    cutoffs = list(half_way(classes))
    places = np.unique(np.quantile(expected, np.linspace(0, 1, CANDIDATES)))
    places = np.union1d((places[1:] + places[:-1]) / 2, cutoffs)
    best = _kappa(ordered, sums, cutoffs)
    for _ in range(ROUNDS):
        before = best
        for k in range(len(cutoffs)):
            low, high = ([-np.inf, *cutoffs, np.inf][place] for place in (k, k + 2))
            free = places[(places > low) & (places < high)]
            kappas = [_kappa(ordered, sums, [*cutoffs[:k], place, *cutoffs[k + 1 :]]) for place in free]
            if kappas and max(kappas) > best + 1e-12:
                best = max(kappas)
                cutoffs[k] = float(np.median(free[np.asarray(kappas) >= best - 1e-12]))
                best = _kappa(ordered, sums, cutoffs)
        if best <= before + 1e-9:
            break
    return tuple(cutoffs)


def _kappa(ordered: np.ndarray, sums: np.ndarray, cutoffs: list[float]) -> float:
    """Quadratic kappa. ordered: sorted expected grades [n]; sums: cumulative truth [n + 1, K] in the same order."""
    edges = [0, *np.searchsorted(ordered, cutoffs), len(ordered)]
    confusion = np.diff(sums[edges], axis=0).T
    return float(np.nan_to_num(quadratic_kappa(confusion)))
