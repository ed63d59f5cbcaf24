"""Cutoffs: the expected grades at which the next grade begins, fitted for quadratic kappa.

A network that learns a mean draws everything towards the middle, so the best cutoffs are not half-way between grades.
They are fitted on images that were not learned from, and never on those that are reported.
"""

from __future__ import annotations

import numpy as np

from foveal.metrics import quadratic_kappa

CANDIDATES = 200  # places tried for each cutoff; the images between two of them would not move kappa by much
ROUNDS = 20


def half_way(classes: int) -> tuple[float, ...]:
    """0.5, 1.5, … K - 1.5."""
    return tuple(k + 0.5 for k in range(classes - 1))


def expected_grades(probabilities: np.ndarray) -> np.ndarray:
    """sum_k k p_k of probabilities [n, K]: float [n]."""
    return np.asarray(probabilities @ np.arange(probabilities.shape[1]))


def cut(expected: np.ndarray, cutoffs: tuple[float, ...]) -> np.ndarray:
    """Grades int [n]: how many of the cutoffs, in order, an expected grade reaches."""
    return np.searchsorted(np.asarray(cutoffs), expected, side="right")


def fit_cutoffs(expected: np.ndarray, truth: np.ndarray) -> tuple[float, ...]:
    """K - 1 ordered cutoffs of expected grades [n] with the highest quadratic kappa against the truth [n, K].

    The truth of an image is 1 for its label. Or it is the calibrated probabilities of all classes, which are the mean
    truth of images with that expected grade: cutoffs then follow the curve of all images rather than the luck of the
    few near a cutoff, and give new images a better kappa (docs/log.md). One cutoff after the other moves to its best
    place between its neighbours, until none gains. Of equally good places the middle is taken.
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
    """ordered: expected grades [n], rising; sums: truth [n + 1, K] of the images before each place."""
    edges = [0, *np.searchsorted(ordered, cutoffs), len(ordered)]
    confusion = np.diff(sums[edges], axis=0).T
    return float(np.nan_to_num(quadratic_kappa(confusion)))
