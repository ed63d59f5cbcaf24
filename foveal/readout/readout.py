"""Readout: from what a grader computes to what it says, fitted on images that it has not learned from.

    temperature   probabilities become p^(1/T), scaled to sum to 1: as sure as they are right (Guo et al. 2017)
    steps         for a regression in place of a temperature, since its scatter is not the same for all grades: a slope
                  and a cut from each grade to the next, log p_k+1 / p_k = slope (e - cut) of the raw expected grade e
                  (adjacent-category logits: Agresti 2010, Analysis of Ordinal Categorical Data, section 4.1). All
                  slopes are positive, so that the order of images stays; None = a temperature
    thresholds    expected grades at which the next grade begins (cutoffs.py); None = half-way
    limits        the least probability with which a class enters a set (prediction_sets.py); None = no sets

A run keeps it in RUN/readout.json. The images that it was fitted on are themselves judged with one that was fitted on
the others (`crossed`), so that no image helps to choose what it is judged by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import softmax

from foveal.files import read_json, write_json
from foveal.readout import cutoffs, prediction_sets

FILE = "readout.json"
LEAST_IMAGES = 50  # fewer tell nothing reliable of a temperature or a threshold
LEAST_PROBABILITY = 1e-6  # as predictions.csv has them
COLDEST, HOTTEST = 0.1, 10.0
USUAL_SLOPE = 3.0  # of a step, as losses/regression.py assumes for all


@dataclass(frozen=True, kw_only=True)
class Readout:
    """What is done to raw probabilities [n, K]; `decision` as in losses/grading.py."""

    decision: str
    ordered: bool
    temperature: float = 1.0
    steps: tuple[tuple[float, float], ...] | None = None
    thresholds: tuple[float, ...] | None = None
    limits: tuple[float, ...] | None = None
    coverage: float = 0.0
    images: int = 0

    def probabilities(self, raw: np.ndarray) -> np.ndarray:
        """float [n, K] after the temperature, or by steps."""
        return heated(raw, self.temperature) if self.steps is None else stepped(raw, self.steps)

    def grades(self, probabilities: np.ndarray) -> np.ndarray:
        """int [n] of calibrated probabilities [n, K]."""
        if self.decision == "most_probable":
            return probabilities.argmax(1)
        cuts = self.thresholds or cutoffs.half_way(probabilities.shape[1])
        return cutoffs.cut(cutoffs.expected_grades(probabilities), cuts)

    def sets(self, probabilities: np.ndarray, grades: np.ndarray) -> list[str]:
        """The set of each image as words, "1 2"; empty without limits."""
        if self.limits is None:
            return [""] * len(grades)
        return prediction_sets.as_words(prediction_sets.sets_of(probabilities, grades, self.limits, self.ordered))


@dataclass(frozen=True, kw_only=True)
class ReadoutOptions:
    """What is fitted: a temperature (or `steps` in its place), thresholds, and sets of that coverage (0 = none)."""

    decision: str
    ordered: bool
    temperature: bool
    steps: bool = False
    thresholds: bool
    coverage: float


def fit_readout(raw: np.ndarray, labels: np.ndarray, options: ReadoutOptions, least: int = LEAST_IMAGES) -> Readout:
    """The readout for raw probabilities [n, K] with labels int [n]; nothing is fitted on fewer than `least` images."""
    plain = Readout(decision=options.decision, ordered=options.ordered)
    wanted = options.temperature or options.thresholds or options.coverage
    if len(labels) < least or not wanted:
        return plain
    calibrated = plain
    if options.temperature and options.steps:
        calibrated = replace(plain, steps=fit_steps(raw, labels))
    elif options.temperature:
        calibrated = replace(plain, temperature=fit_temperature(raw, labels))
    probabilities, cuts = calibrated.probabilities(raw), None
    if options.thresholds and options.decision == "expected":
        truth = np.eye(raw.shape[1])[labels] if calibrated.steps is None else probabilities
        cuts = cutoffs.fit_thresholds(cutoffs.expected_grades(probabilities), truth)
    limits = prediction_sets.fit_limits(probabilities, labels, options.coverage) if options.coverage else None
    coverage = options.coverage if limits is not None else 0.0
    return replace(calibrated, thresholds=cuts, limits=limits, coverage=coverage, images=len(labels))


def crossed(
    raw: np.ndarray, labels: np.ndarray, parts: np.ndarray, options: ReadoutOptions
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Probabilities [n, K], grades [n] and sets [n] of the images that a readout is fitted on.

    parts: int [n]; the images of each part are read with what was fitted on all the others. Where there is one part
    only, it is read with what was fitted on itself.
    """
    if len(np.unique(parts)) < 2:
        readout = fit_readout(raw, labels, options)
        same = readout.probabilities(raw)
        given = readout.grades(same)
        return same, given, readout.sets(same, given)
    probabilities, grades = np.empty_like(raw), np.empty(len(raw), np.int64)
    words = np.empty(len(raw), dtype=object)
    for part in np.unique(parts):
        own = parts == part
        readout = fit_readout(raw[~own], labels[~own], options, least=1)
        probabilities[own] = readout.probabilities(raw[own])
        grades[own] = readout.grades(probabilities[own])
        words[own] = readout.sets(probabilities[own], grades[own])
    return probabilities, grades, list(words)


def fit_temperature(raw: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the least log-loss, from 0.1 to 10; above 1 where the grader was too sure."""
    rows = np.arange(len(labels))

    def loss(logarithm: float) -> float:
        return float(-np.log(heated(raw, np.exp(logarithm))[rows, labels].clip(LEAST_PROBABILITY)).mean())

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


def fit_steps(raw: np.ndarray, labels: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Slope and cut of each step [K - 1] with the least log-loss.

    A normal prior of standard deviation 1 around what the regression assumes, on the cuts and on the logarithms of
    the slopes, costs as much as half an image at one standard deviation: a step with few images stays near it.
    """
    expected, classes = cutoffs.expected_grades(raw), raw.shape[1]
    truth = np.eye(classes)[labels]
    assumed = np.concatenate([np.full(classes - 1, np.log(USUAL_SLOPE)), cutoffs.half_way(classes)])

    def loss(found: np.ndarray) -> tuple[float, np.ndarray]:
        slopes, cuts = np.exp(found[: classes - 1]), found[classes - 1 :]
        scores = _climbed(expected, slopes, cuts)
        sums = np.logaddexp.reduce(scores, axis=1)
        beyond = np.cumsum((np.exp(scores - sums[:, None]) - truth)[:, :0:-1], axis=1)[:, ::-1]  # errors above a step
        cost = (sums - (scores * truth).sum(1)).sum() + 0.5 * ((found - assumed) ** 2).sum()
        by_slope = (beyond * slopes * (expected[:, None] - cuts)).sum(0)
        return float(cost), np.concatenate([by_slope, -slopes * beyond.sum(0)]) + found - assumed

    found = minimize(loss, assumed, jac=True, method="L-BFGS-B").x
    return tuple((float(np.exp(slope)), float(cut)) for slope, cut in found.reshape(2, -1).T)


def stepped(raw: np.ndarray, steps: Sequence[tuple[float, float]]) -> np.ndarray:
    """Probabilities [n, K] by steps, from raw ones [n, K]."""
    slopes, cuts = np.asarray(steps).T
    scaled: np.ndarray = softmax(_climbed(cutoffs.expected_grades(raw), slopes, cuts), axis=1)
    return scaled


def _climbed(expected: np.ndarray, slopes: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """log p_k - log p_0 [n, K]: the sum of slope (expected - cut) over the steps below a class."""
    return np.pad(np.cumsum(slopes * (expected[:, None] - cuts), axis=1), ((0, 0), (1, 0)))


def heated(raw: np.ndarray, temperature: float) -> np.ndarray:
    """p^(1/T) / sum of it, of probabilities [n, K]."""
    if temperature == 1:
        return raw
    scaled: np.ndarray = softmax(np.log(raw.clip(LEAST_PROBABILITY)) / temperature, axis=1)
    return scaled


def write_readout(run: Path, readout: Readout) -> None:
    """Write RUN/readout.json."""
    write_json(run / FILE, asdict(readout))


def read_readout(run: Path, decision: str, ordered: bool, expected: bool = False) -> Readout:
    """RUN/readout.json, or a plain readout where the run has none; ValueError where one was `expected`."""
    file = run / FILE
    if not file.is_file():
        if expected:
            raise ValueError(f"{file} is missing: without it {run} would answer otherwise than it did; copy it again")
        return Readout(decision=decision, ordered=ordered)
    return readout_from(read_json(file))


def readout_from(said: Mapping[str, Any]) -> Readout:
    """A readout from what `asdict` made of one."""
    lists = {key: tuple(said[key]) for key in ("thresholds", "limits") if said[key] is not None}
    steps = said.get("steps")  # files from before steps have none
    return Readout(**{**said, **lists, "steps": None if steps is None else tuple(tuple(step) for step in steps)})
