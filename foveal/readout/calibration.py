"""Calibration: probabilities that are as sure as they are right, fitted on images that were not learned from.

temperature   probabilities become p^(1/T), scaled to sum to 1 (Guo et al. 2017)
steps         for a regression in place of a temperature, since its scatter differs from grade to grade: a slope
              and a place from each grade to the next, log p_k+1 / p_k = slope (e - place) of the raw expected
              grade e (adjacent-category logits: Agresti 2010, Analysis of Ordinal Categorical Data, section 4.1).
              All slopes are positive, so that the order of images stays
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import softmax

from foveal.readout.cutoffs import expected_grades, half_way

LEAST_PROBABILITY = 1e-6  # as in predictions.csv
COLDEST, HOTTEST = 0.1, 10.0
USUAL_SLOPE = 3.0  # of a step, as losses/regression.py assumes for all


def heated(raw: np.ndarray, temperature: float) -> np.ndarray:
    """p^(1/T) / sum of it, of probabilities [n, K]."""
    if temperature == 1:
        return raw
    return np.asarray(softmax(np.log(raw.clip(LEAST_PROBABILITY)) / temperature, axis=1))


def fit_temperature(raw: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the least log-loss, from 0.1 to 10; above 1 where the grader was too sure."""
    rows = np.arange(len(labels))

    def loss(logarithm: float) -> float:
        return float(-np.log(heated(raw, np.exp(logarithm))[rows, labels].clip(LEAST_PROBABILITY)).mean())

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def stepped(raw: np.ndarray, steps: Sequence[tuple[float, float]]) -> np.ndarray:
    """Probabilities [n, K] by steps, from raw ones [n, K]."""
    slopes, places = np.asarray(steps).T
    return np.asarray(softmax(_climbed(expected_grades(raw), slopes, places), axis=1))


def fit_steps(raw: np.ndarray, labels: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Slope and place of each step [K - 1] with the least log-loss.

    A normal prior of standard deviation 1 around what the regression assumes, on the places and on the logarithms of
    the slopes, costs as much as half an image at one standard deviation: a step with few images stays near it.
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
    """log p_k - log p_0 [n, K]: the sum of slope (expected - place) over the steps below a class."""
    return np.pad(np.cumsum(slopes * (expected[:, None] - places), axis=1), ((0, 0), (1, 0)))
