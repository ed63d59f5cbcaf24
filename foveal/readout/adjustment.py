"""Adjustment: what the probabilities of a grader become in one clinic, without training.

Probabilities p, as the grader calibrated them at home, become p^(1/T) w, scaled to sum to 1: a temperature and a weight
for each class. Grades and prediction sets follow from p itself, because weights move the grades of a grader that is
often wrong towards the most frequent class (docs/log.md); so `undone` is the exact inverse.

With labels, T and w have the lowest log-loss ("bias-corrected temperature scaling", Alexandari, Kundaje and Shrikumar
2020, https://proceedings.mlr.press/v119/alexandari20a.html). Without, w is the ratio of the shares of the classes here
and at home, which expectation maximisation estimates (Saerens, Latinne and Decaestecker 2002).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from foveal.readout.calibration import LEAST_PROBABILITY

ROUNDS = 1000  # of expectation maximisation, which stops earlier when shares no longer change
LEAST_CHANGE = 1e-6


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
    """The adjustment to unlabelled images with probabilities [n, K], and the estimated shares of their classes [K].

    own: probabilities [m, K] of labelled images at home, with labels int [m].
    """
    fitted = fit_adjustment(own, labels, weighted=True)
    home = fitted.applied(own).mean(0)
    shares = estimate_shares(fitted.applied(probabilities), home).clip(LEAST_PROBABILITY)
    weights = np.array(fitted.weights) * shares / home
    return Adjustment(temperature=fitted.temperature, weights=tuple(weights.tolist())), shares
