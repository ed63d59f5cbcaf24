"""Calibration and cutoffs, both fitted on images used neither for training nor for the reported results.

Calibration makes probabilities match the observed frequencies:

temperature   probabilities become p^(1/T), scaled to sum to 1 (Guo et al. 2017)
steps         for a regression, instead of a temperature, because its spread differs between grades. Each step from a
              grade to the next has a slope and a place: log p_k+1 / p_k = slope (e - place), where e is the raw
              expected grade (adjacent-category logits: Agresti 2010, Analysis of Ordinal Categorical Data, section
              4.1). All slopes are positive, so the order of images does not change

Cutoffs are the boundaries between grades on the scale of the expected grade, fitted for quadratic kappa. The expected
grade of a network is biased towards the middle, so the best cutoffs are not half-way between grades.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import softmax

from foveal.metrics import quadratic_kappa

LEAST_PROBABILITY = 1e-6  # as in predictions.csv
COLDEST, HOTTEST = 0.1, 10.0
USUAL_SLOPE = 3.0  # prior slope of each step, the one that losses/grading.py uses
CANDIDATES = 200  # places tried for each cutoff; more would hardly change kappa
ROUNDS = 20


def heated(raw: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities [n, K] after temperature scaling: p^(1/T), scaled to sum to 1."""
    if temperature == 1:
        return raw
    return np.asarray(softmax(np.log(raw.clip(LEAST_PROBABILITY)) / temperature, axis=1))


def fit_temperature(raw: np.ndarray, labels: np.ndarray) -> float:
    """The temperature (0.1-10) with the lowest log-loss; above 1 if the grader was overconfident."""
    rows = np.arange(len(labels))

    def loss(logarithm: float) -> float:
        return float(-np.log(heated(raw, np.exp(logarithm))[rows, labels].clip(LEAST_PROBABILITY)).mean())

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def stepped(raw: np.ndarray, steps: Sequence[tuple[float, float]]) -> np.ndarray:
    """Probabilities [n, K] calibrated in steps, from raw probabilities [n, K]."""
    slopes, places = np.asarray(steps).T
    return np.asarray(softmax(_climbed(expected_grades(raw), slopes, places), axis=1))


def fit_steps(raw: np.ndarray, labels: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Slope and place of each step [K - 1] with the lowest log-loss.

    Places and log-slopes have a normal prior with standard deviation 1 around the values that the regression assumes,
    so steps with few images stay near these values. A deviation of one standard deviation adds 0.5 to the summed loss.
    """
    expected, classes = expected_grades(raw), raw.shape[1]
    truth = np.eye(classes)[labels]
    assumed = np.concatenate([np.full(classes - 1, np.log(USUAL_SLOPE)), half_way(classes)])

    def loss(found: np.ndarray) -> tuple[float, np.ndarray]:
        slopes, places = np.exp(found[: classes - 1]), found[classes - 1 :]
        scores = _climbed(expected, slopes, places)
        sums = np.logaddexp.reduce(scores, axis=1)
        beyond = np.cumsum((np.exp(scores - sums[:, None]) - truth)[:, :0:-1], axis=1)[:, ::-1]  # errors above a step
        cost = (sums - (scores * truth).sum(1)).sum() + 0.5 * ((found - assumed) ** 2).sum()
        by_slope = (beyond * slopes * (expected[:, None] - places)).sum(0)
        return float(cost), np.concatenate([by_slope, -slopes * beyond.sum(0)]) + found - assumed

    found = minimize(loss, assumed, jac=True, method="L-BFGS-B").x
    return tuple((float(np.exp(slope)), float(place)) for slope, place in found.reshape(2, -1).T)


def _climbed(expected: np.ndarray, slopes: np.ndarray, places: np.ndarray) -> np.ndarray:
    """log p_k - log p_0 [n, K]: the sum of slope (expected - place) over all steps up to class k."""
    return np.pad(np.cumsum(slopes * (expected[:, None] - places), axis=1), ((0, 0), (1, 0)))


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
