"""Calibration: probabilities that match the observed frequencies, fitted on images not used for training or results.

temperature   probabilities become p^(1/T), scaled to sum to 1 (Guo et al. 2017)
steps         for a regression, instead of a temperature, because its spread differs between grades. Each step from a
              grade to the next has a slope and a place: log p_k+1 / p_k = slope (e - place), where e is the raw
              expected grade (adjacent-category logits: Agresti 2010, Analysis of Ordinal Categorical Data, section
              4.1). All slopes are positive, so the order of images does not change
adjustment    in one clinic: calibrated probabilities p become p^(1/T) w, scaled to sum to 1, with a weight for each
              class. Grades and sets follow from p itself, because weights move the grades of a grader that is often
              wrong towards the most frequent class (docs/log.md); so `undone` is the exact inverse. With labels, T and
              w have the lowest log-loss (Alexandari et al. 2020). Without, w is the ratio of the shares of the classes
              here and at home, by expectation maximisation (Saerens, Latinne and Decaestecker 2002)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax

from foveal.readout.decisions import expected_grades, half_way

LEAST_PROBABILITY = 1e-6  # as in predictions.csv
COLDEST, HOTTEST = 0.1, 10.0
USUAL_SLOPE = 3.0  # prior slope of each step, the one that losses/grading.py uses
ROUNDS = 1000  # of expectation maximisation, which stops earlier when shares no longer change
LEAST_CHANGE = 1e-6


def heated(raw: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities [n, K] after temperature scaling: p^(1/T), scaled to sum to 1."""
    return raw if temperature == 1 else softmax(np.log(raw.clip(LEAST_PROBABILITY)) / temperature, axis=1)


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
    return softmax(_climbed(expected_grades(raw), slopes, places), axis=1)


def fit_steps(raw: np.ndarray, labels: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Slope and place of each step [K - 1] with the lowest log-loss.

    Places and log-slopes have a normal prior with standard deviation 1 around the values that the regression assumes,
    so steps with few images stay near these values.
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


@dataclass(frozen=True, kw_only=True)
class Adjustment:
    """p -> p^(1 / temperature) weights, scaled to sum to 1; weights [K]."""

    temperature: float
    weights: tuple[float, ...]

    def applied(self, probabilities: np.ndarray) -> np.ndarray:
        """Adjusted probabilities [n, K]."""
        return softmax(np.log(probabilities.clip(LEAST_PROBABILITY)) / self.temperature + np.log(self.weights), axis=1)

    def undone(self, adjusted: np.ndarray) -> np.ndarray:
        """The probabilities [n, K] that were adjusted."""
        logs = np.log(adjusted.clip(np.finfo(np.float32).tiny).astype(float))
        return softmax((logs - np.log(self.weights)) * self.temperature, axis=1)


def fit_adjustment(probabilities: np.ndarray, labels: np.ndarray, *, weighted: bool) -> Adjustment:
    """The adjustment of probabilities [n, K] with the lowest log-loss for labels int [n].

    The logarithms of temperature and weights have a normal prior with standard deviation 1 around 0, so a class with
    few images keeps its weight. weighted: False for a temperature alone.
    """
    logs, classes = np.log(probabilities.clip(LEAST_PROBABILITY)), probabilities.shape[1]
    truth = np.eye(classes)[labels]

    def loss(found: np.ndarray) -> tuple[float, np.ndarray]:
        slope, biases = np.exp(found[0]), found[1:] * weighted
        scores = log_softmax(slope * logs + biases, axis=1)
        wrong = np.exp(scores) - truth
        cost = -(scores * truth).sum() + 0.5 * (found**2).sum()
        return float(cost), np.concatenate([[(wrong * logs).sum() * slope], wrong.sum(0) * weighted]) + found

    found = minimize(loss, np.zeros(classes + 1), jac=True, method="L-BFGS-B").x
    return Adjustment(temperature=float(np.exp(-found[0])), weights=tuple(np.exp(found[1:] * weighted).tolist()))


def estimate_shares(probabilities: np.ndarray, home: np.ndarray) -> np.ndarray:
    """The shares of the classes [K] among images with probabilities [n, K], by expectation maximisation.

    home: the mean prediction [K] on labelled images of the grader's own sources; with the shares of their labels
    instead, errors of calibration add up. Only valid if images of one grade look alike here and there.
    """
    shares = home / home.sum()
    for _ in range(ROUNDS):
        likely = probabilities * (shares / home).clip(0)
        before, shares = shares, (likely / likely.sum(1, keepdims=True)).mean(0)
        if abs(shares - before).max() < LEAST_CHANGE:
            break
    return shares


def shifted(probabilities: np.ndarray, own: np.ndarray, labels: np.ndarray) -> tuple[Adjustment, np.ndarray]:
    """The adjustment to unlabelled images, by labelled ones at home (`own`), and the estimated shares [K]."""
    fitted = fit_adjustment(own, labels, weighted=True)
    home = fitted.applied(own).mean(0)
    shares = estimate_shares(fitted.applied(probabilities), home).clip(LEAST_PROBABILITY)
    weights = np.array(fitted.weights) * shares / home
    return Adjustment(temperature=fitted.temperature, weights=tuple(weights.tolist())), shares
