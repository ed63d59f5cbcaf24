"""Figures of probabilities: ROC and precision-recall curves, the areas under them, and calibration.

At a threshold t, all images with score >= t are called positive, so a tie is a single corner of a curve. Calibration is
that of the most probable class, which is not always the grade.
"""

import math
from itertools import pairwise
from typing import Any

import numpy as np

from foveal import metrics
from foveal.evaluate.intervals import Figure, Resampling

MOST_POINTS = 200
MOST_BINS, FEWEST_IN_A_BIN = 15, 20
BLOCK = 512  # images at a time, so that their weights in all resamples fit in the CPU cache


def corners(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds [T] of scores [n] in descending order, with the number of true and of false positives [T] at each."""
    order = np.argsort(-scores, kind="stable")
    ends = _tie_ends(scores[order])
    hits = np.cumsum(positive[order])[ends]
    return scores[order][ends], hits, ends + 1 - hits


def curves(scores: np.ndarray, positive: np.ndarray) -> dict[str, list[list[float]]]:
    """Two curves of at most 200 points, from the highest threshold to the lowest; [] if all images are one kind.

    roc: [false positive rate, true positive rate] from (0, 0) to (1, 1). precision_recall: [recall, precision].
    """
    _, hits, false = corners(scores, positive)
    if not hits[-1] or not false[-1]:
        return {"roc": [], "precision_recall": []}
    roc = np.stack([np.append(0, false) / false[-1], np.append(0, hits) / hits[-1]], axis=1)
    precision_recall = np.stack([hits / hits[-1], hits / (hits + false)], axis=1)
    return {"roc": _thinned(roc), "precision_recall": _thinned(precision_recall)}


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Precision averaged over the steps of recall, without interpolation; nan without positives."""
    _, hits, false = corners(scores, positive)
    if not hits[-1]:
        return float("nan")
    return float((np.diff(hits, prepend=0) * hits / (hits + false)).sum() / hits[-1])


def roc_area(scores: np.ndarray, positive: np.ndarray, resampling: Resampling) -> Figure:
    """Area under the ROC curve of scores [n] for positive bool [n], and that of every resample [R]."""
    return metrics.area_under_curve(scores, positive), resampled_areas(scores, positive, resampling)[0]


def resampled_areas(scores: np.ndarray, positive: np.ndarray, resampling: Resampling) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve and average precision [R] of scores [n] in every resample; nan with one class."""
    order = np.argsort(-scores, kind="stable")
    units, hit, ends = resampling.units[order], positive[order], _tie_ends(scores[order])
    gained = np.diff(np.cumsum(hit)[ends], prepend=0) > 0
    keys = ends[gained | np.append(gained[1:], False)]  # ties that contain a positive, and those just before them
    size = resampling.weights.shape[1]
    all_before, hits_before = np.zeros((2, size), np.float32)
    last_all, last_hits, area, mean = np.zeros((4, size))
    for start in range(0, len(order), BLOCK):
        block = slice(start, start + BLOCK)
        everyone = _running(all_before, resampling.weights[units[block]])
        hits = _running(hits_before, resampling.weights[units[block][hit[block]]])
        here = keys[(keys >= start) & (keys < start + BLOCK)] - start
        reached = hits[np.cumsum(hit[block])[here]].astype(float)
        seen = everyone[here + 1].astype(float)
        gained = np.diff(reached, axis=0, prepend=last_hits[None])
        others = seen - reached
        height = others + np.concatenate([(last_all - last_hits)[None], others])[:-1]
        area += np.einsum("tr,tr->r", gained, height) / 2
        mean += np.einsum("tr,tr->r", gained, reached / np.maximum(seen, 1))
        all_before, hits_before = everyone[-1], hits[-1]
        if len(here):
            last_all, last_hits = seen[-1], reached[-1]
    positives, negatives = hits_before.astype(float), all_before.astype(float) - hits_before
    both, undefined = (positives > 0) & (negatives > 0), np.full((2, size), np.nan)
    above = np.divide(area, positives * negatives, out=undefined[0], where=both)  # of the curve, as scores descend
    return 1 - above, np.divide(mean, positives, out=undefined[1], where=both)


def _running(before: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """[m + 1, R]: `before`, then the cumulative sums over the rows [m, R]."""
    sums = np.concatenate([before[None], rows])
    for above, row in pairwise(sums):  # whole rows at a time: four times as fast as numpy.cumsum along this axis
        np.add(above, row, out=row)
    return sums


def _tie_ends(ranked: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))


def _thinned(points: np.ndarray) -> list[list[float]]:
    """At most 200 of the points [T, 2], evenly spaced along the curve; both ends are kept."""
    if len(points) > MOST_POINTS:
        length = np.append(0, np.cumsum(abs(np.diff(points, axis=0)).sum(1)))
        steps = np.linspace(0, length[-1], MOST_POINTS)
        points = points[np.unique(np.append(np.searchsorted(length, steps[:-1]), len(points) - 1))]
    return points.round(6).tolist()


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """{"bins": [low, high, confidence, accuracy, n], "luck"} of probabilities [n, K] and labels int [n].

    `luck` is the calibration error that a perfectly calibrated grader would show on average by chance alone, with this
    number of images (normal approximation per bin).
    """
    confidence, right = _top(probabilities, labels)
    bins, found, luck = equal_mass_bins(confidence), [], 0.0
    for number in np.unique(bins):
        part, hits = confidence[bins == number], right[bins == number]
        entry = {"low": part.min(), "high": part.max(), "confidence": part.mean(), "accuracy": hits.mean()}
        found.append({**{key: float(value) for key, value in entry.items()}, "n": len(part)})
        luck += math.sqrt(2 / math.pi * float((part * (1 - part)).sum())) / len(labels)
    return {"bins": found, "luck": luck}


def equal_mass_bins(confidence: np.ndarray) -> np.ndarray:
    """int [n]: the bin of each image: at most 15, of at least 20 images; images with equal confidence share a bin."""
    bins = int(np.clip(len(confidence) // FEWEST_IN_A_BIN, 1, MOST_BINS))
    return np.searchsorted(np.unique(np.quantile(confidence, np.arange(1, bins) / bins)), confidence, side="right")


def calibration_error(probabilities: np.ndarray, labels: np.ndarray, resampling: Resampling) -> Figure:
    """Expected calibration error (Naeini et al. 2015, Guo et al. 2017), 0 (best) to 1, and that of every resample [R].

    Bins have equally many images. Gaps are absolute, so resampling noise raises the resampled values; the mean excess
    is subtracted.
    """
    confidence, right = _top(probabilities, labels)
    members = equal_mass_bins(confidence)[:, None] == np.arange(MOST_BINS)
    gaps = np.where(members, (confidence - right)[:, None], 0.0)
    value = float(abs(gaps.sum(0)).sum() / len(labels))
    n = resampling.sums(np.ones((len(labels), 1)))[:, 0]
    drawn = abs(resampling.sums(gaps)).sum(1) / np.where(n > 0, n, np.nan)
    return value, np.maximum(drawn - (np.nanmean(drawn) - value), 0)


def brier_score(probabilities: np.ndarray, labels: np.ndarray, resampling: Resampling) -> Figure:
    """Squared distance of probabilities and truth, 0 (best) to 2, summed over classes (Brier 1950); resamples [R]."""
    errors = ((probabilities - np.eye(probabilities.shape[1])[labels]) ** 2).sum(1)
    return resampling.ratio(errors, np.ones_like(errors))


def _top(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence [n] in the most probable class, and 1.0 where that class is correct, else 0.0."""
    return probabilities.max(1), (probabilities.argmax(1) == labels).astype(float)
