"""Fit the readout of a grader to the graded photographs of a clinic, and measure the gain from that many of them.

Each step away from the parent must be better out of fold, on other patients, by more than its standard error: weights
of the classes beside a temperature, and other cutoffs.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from foveal import metrics
from foveal.evaluate.difference import answer
from foveal.evaluate.intervals import Resampling
from foveal.readout.calibration import LEAST_PROBABILITY, fit_adjustment
from foveal.readout.decisions import choose_cutoffs, place_of
from foveal.readout.readout import Readout, crossed, fit_limits
from foveal.sets.splits import draw_groups, parts_of_groups

SIZES = (25, 50, 100, 200)  # photographs, of the curve
REPEATS = 20  # drawings of each size
LEAST_JUDGED = 25  # photographs that are left to judge a size on
SEED = 0
NAMES = ("quadratic_kappa", "accuracy", "log_loss")
Graded = tuple[np.ndarray, np.ndarray]  # probabilities [n, K] and grades int [n]
Drawn = tuple[float, np.ndarray]  # a value, and in every resample [R]


def fit_clinic(home: Readout, raw: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> Readout:
    """The readout `home` of a grader, fitted to raw probabilities [n, K] with labels int [n] and groups int [n]."""
    before, parts = home.probabilities(raw), parts_of_groups(groups.astype(str), SEED)

    def adjusted(chosen: np.ndarray, *, weighted: bool) -> Readout:
        return replace(home, adjustment=fit_adjustment(before[chosen], labels[chosen], weighted=weighted), limits=None)

    plain, weighted = (crossed(partial(adjusted, weighted=weighted), raw, parts)[0] for weighted in (False, True))
    gain, error = loss_gained(labels, plain, weighted, groups)
    adjustment = fit_adjustment(before, labels, weighted=gain > error and len(np.unique(parts)) > 1)
    cutoffs = home.cutoffs
    if home.decision != "most_probable" and home.ordered:
        truth = np.eye(raw.shape[1])[labels] if home.steps is None else adjustment.applied(before)
        units = np.unique(groups, return_inverse=True)[1]
        cutoffs = choose_cutoffs(place_of(before, home.decision), labels, truth, units, home.cutoffs)
    limits = fit_limits(before, labels, home.coverage) if home.limits is not None else None
    return replace(home, adjustment=adjustment, cutoffs=cutoffs, limits=limits, images=len(labels))


def log_losses(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float [n]: the log-loss of each image."""
    return np.asarray(-np.log(probabilities[np.arange(len(labels)), labels].clip(LEAST_PROBABILITY)))


def loss_gained(labels: np.ndarray, before: np.ndarray, after: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """By how much `after` lowers the mean log-loss of `before`, probabilities [n, K], and its error over groups [n]."""
    gained = log_losses(before, labels) - log_losses(after, labels)
    return float(gained.mean()), float(np.sqrt((np.bincount(groups, gained - gained.mean()) ** 2).sum()) / len(labels))


def gains(labels: np.ndarray, before: Graded, after: Graded, resampling: Resampling) -> dict[str, Any]:
    """name -> value, low, high and answer: after minus before, on the same images."""
    found = _differences(labels, before, after, resampling)
    return {name: _entry(*figure, resampling, name) for name, figure in found.items()}


def _differences(labels: np.ndarray, before: Graded, after: Graded, resampling: Resampling) -> dict[str, Drawn]:
    """name -> after minus before, and its value in every resample [R]."""
    classes, found = before[0].shape[1], {}
    for metric in (metrics.quadratic_kappa, metrics.accuracy):
        one, other = (resampling.graded(metric, labels, grades, classes) for _, grades in (before, after))
        found[metric.__name__] = other[0] - one[0], other[1] - one[1]
    lost = log_losses(after[0], labels) - log_losses(before[0], labels)
    return found | {"log_loss": resampling.ratio(lost, np.ones(len(lost)))}


def _entry(value: float, drawn: np.ndarray, resampling: Resampling, name: str) -> dict[str, Any]:
    low, high = resampling.interval(value, drawn)
    said = answer(-high, -low) if name == "log_loss" else answer(low, high)  # a lower loss is better
    return {"value": value, "low": low, "high": high, "answer": said}


def curve(home: Readout, raw: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> list[dict[str, Any]]:
    """A row per size: photographs, judged (the mean number), and the gains on the photographs that were not drawn.

    Values are means over `REPEATS` drawings of whole patients, and intervals those of these means. Sizes that leave
    fewer than `LEAST_JUDGED` photographs are left out.
    """
    generator, resampling, rows = np.random.default_rng(SEED), Resampling(groups), []
    for size in SIZES:
        drawings = [draw_groups(groups, size, generator) for _ in range(REPEATS)]
        drawings = [drawn for drawn in drawings if (~drawn).sum() >= LEAST_JUDGED]
        if not drawings or size > len(labels) - LEAST_JUDGED:
            break
        found = []
        for drawn in drawings:
            fitted, rest = fit_clinic(home, raw[drawn], labels[drawn], groups[drawn]), raw[~drawn]
            found.append(_differences(labels[~drawn], read(home, rest), read(fitted, rest), resampling.part(~drawn)))
        row: dict[str, Any] = {"photographs": size, "judged": round(float(np.mean([(~one).sum() for one in drawings])))}
        for name in NAMES:
            value = float(np.mean([one[name][0] for one in found]))
            row[name] = _entry(value, np.mean([one[name][1] for one in found], axis=0), resampling, name)
        rows.append(row)
    return rows


def read(readout: Readout, raw: np.ndarray) -> Graded:
    """Probabilities and grades of raw probabilities [n, K]."""
    probabilities = readout.probabilities(raw)
    return probabilities, readout.grades(probabilities)
