"""Calibration: of the images with a confidence of 80 %, 80 % should be correct.

All figures are for the most probable class. This is not always the grade: a grader of ordered classes may round the
expected grade instead.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from foveal.evaluate.intervals import Resampling

MOST_BINS, FEWEST_IN_A_BIN = 15, 20


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """{"bins": [low, high, confidence, accuracy, n], "luck"} of probabilities [n, K] and labels int [n].

    Each bin has the same number of images (at most 15 bins, at least 20 images each); images with equal confidence
    share a bin. `luck` is the calibration error that a perfectly calibrated grader would show on average by chance
    alone, with this number of images (normal approximation per bin).
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
    """int [n]: the bin of each image; images with equal confidence share a bin."""
    bins = int(np.clip(len(confidence) // FEWEST_IN_A_BIN, 1, MOST_BINS))
    edges = np.unique(np.quantile(confidence, np.arange(1, bins) / bins))
    return np.searchsorted(edges, confidence, side="right")


def calibration_error(
    probabilities: np.ndarray, labels: np.ndarray, resampling: Resampling
) -> tuple[float, np.ndarray]:
    """Expected calibration error, and its value in every resample [R], with the same bins.

    The gap between mean confidence and accuracy of the most probable class, averaged over bins weighted by their size
    (Naeini et al. 2015, Guo et al. 2017), here with equally many images per bin. 0 is best, 1 is worst. Gaps are
    absolute, so resampling noise raises the resampled values; the mean excess is subtracted.
    """
    confidence, right = _top(probabilities, labels)
    members = equal_mass_bins(confidence)[:, None] == np.arange(MOST_BINS)
    gaps = np.where(members, (confidence - right)[:, None], 0.0)
    value = float(abs(gaps.sum(0)).sum() / len(labels))
    n = resampling.sums(np.ones((len(labels), 1)))[:, 0]
    drawn = abs(resampling.sums(gaps)).sum(1) / np.where(n > 0, n, np.nan)
    excess = np.nanmean(drawn) - value
    return value, np.maximum(drawn - excess, 0)


def brier_score(probabilities: np.ndarray, labels: np.ndarray, resampling: Resampling) -> tuple[float, np.ndarray]:
    """Squared distance between probabilities and truth, summed over classes (Brier 1950), with its resamples [R].

    0 is best; 2 means full confidence in a wrong class.
    """
    truth = labels[:, None] == np.arange(probabilities.shape[1])
    errors = ((probabilities - truth) ** 2).sum(1)
    return resampling.ratio(errors, np.ones_like(errors))


def _top(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Confidence [n] in the most probable class, and 1.0 where that class is correct, else 0.0."""
    return probabilities.max(1), (probabilities.argmax(1) == labels).astype(float)
