"""Confidence intervals, used everywhere in Foveal. The bootstrap draws whole groups (patients), not single images.

    resampling = Resampling(units)                                # units: int [n], the group of each image
    entry = resampling.mean(hits, is_share=True)                  # a mean or share of one value per image
    entry = resampling.of_grades(metrics.accuracy, labels, grades, classes)
    entry = resampling.entry(value, drawn, n)                     # any metric, with its value in every resample [R]
    entry = resampling.entry(second - first, drawn_second - drawn_first, n)          # a paired difference

An entry is {value, low, high, n, noise}. For a mean over several tables of the same images, average the values, and the
resampled values from the same `Resampling`.

Images of one patient are similar, so drawing single images would make intervals too narrow. Plain percentiles are too
narrow as well, so they are corrected for bias and skewness (BCa, Efron 1987), and widened for few groups as with
Student's t (Hesterberg 2015); benchmarks/interval_coverage.py measures the gain.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.stats import norm
from scipy.stats import t as student

from foveal import metrics
from foveal.errors import FovealError

RESAMPLES = 1000  # with fewer, limits vary visibly between seeds; more take longer without a visible gain
BLOCK = 4096  # groups converted to float64 at a time, which limits the memory
MOST_SKEWED = 10_000  # groups: with more, skewness is negligible (it falls with their square root) and not computed
Metric = Callable[[np.ndarray], np.ndarray]  # of confusion matrices
Figure = tuple[float, np.ndarray]  # the value of a metric, and its resamples [R]
KAPPAS = (metrics.quadratic_kappa, metrics.linear_kappa, metrics.unweighted_kappa)  # need labels of several grades
EQUAL = 1e-12  # resamples that differ by less, or by this share of the value, differ by rounding alone
MOST_BIAS = 1.9  # standard errors: keeps a value at the edge of its resamples within its own interval


class Resampling:
    """The same resamples for every metric of an evaluation, so that metrics can be compared draw by draw.

    units: [n], the group (patient) of each image, a number or name. weights: float32 [G, R], how often each was drawn.
    """

    def __init__(self, units: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> None:
        names, self.units = np.unique(np.asarray(units), return_inverse=True)
        if not len(names):
            raise FovealError("option.value", "units is empty", expected="the group of each image")
        groups, generator = len(names), np.random.default_rng(seed)
        self.weights = np.empty((groups, resamples), np.float32)
        for start in range(0, resamples, 50):  # draws take 8 bytes per group, so not all at once
            stop = min(start + 50, resamples)
            drawn = generator.multinomial(groups, np.full(groups, 1 / groups), size=stop - start)
            self.weights[:, start:stop] = drawn.T

    @property
    def groups(self) -> int:
        """Number of groups with at least one image."""
        return len(np.unique(self.units))

    def part(self, chosen: np.ndarray) -> "Resampling":
        """The same resamples, restricted to some of the images: `chosen` is bool [n] or int [m]."""
        part = copy.copy(self)
        part.units = self.units[chosen]
        return part

    def sums(self, columns: np.ndarray) -> np.ndarray:
        """float [R, C]: the sum of each column of [n, C] over the images of every resample."""
        present, places = np.unique(self.units, return_inverse=True)
        by_group = np.stack([np.bincount(places, column, minlength=len(present)) for column in columns.T], axis=1)
        total = np.zeros((self.weights.shape[1], columns.shape[1]))
        for start in range(0, len(present), BLOCK):
            block = slice(start, start + BLOCK)
            total += self.weights[present[block]].T.astype(float) @ by_group[block]
        return total

    def counts(self, cells: np.ndarray, size: int) -> np.ndarray:
        """float [R, size]: the number of images in each of `size` cells, for every resample. cells: int [n]."""
        shape = size, len(self.weights)
        members = sparse.csr_array((np.ones(len(cells), np.float32), (cells, self.units)), shape)
        return np.asarray(members @ self.weights, float).T

    def confusions(self, labels: np.ndarray, grades: np.ndarray, classes: int) -> np.ndarray:
        """float [R, K, K]: the confusion matrix of every resample."""
        return self.counts(labels * classes + grades, classes**2).reshape(-1, classes, classes)

    def graded(self, metric: Metric, labels: np.ndarray, grades: np.ndarray, classes: int) -> tuple[float, np.ndarray]:
        """A metric of confusion matrices, such as `metrics.quadratic_kappa`: its value and its resamples [R]."""
        whole = metrics.confusion_matrix(labels, grades, classes)
        return float(metric(whole)), np.asarray(metric(self.confusions(labels, grades, classes)))

    def of_grades(self, metric: Metric, labels: ArrayLike, grades: ArrayLike, classes: int) -> dict[str, Any]:
        """The entry (see `entry`) of a metric of confusion matrices, such as `foveal.metrics.quadratic_kappa`.

        labels, grades: int [n], true and given, from 0 to K - 1, in the order of `units`. classes: K.
        """
        labels, grades = np.asarray(labels), np.asarray(grades)
        self._check(labels, grades)
        value, drawn = self.graded(metric, labels, grades, classes)
        if metric in KAPPAS and len(np.unique(labels)) < 2:
            value = math.nan
        return self.entry(value, drawn, len(labels))

    def _check(self, *columns: ArrayLike) -> None:
        if wrong := [np.shape(column) for column in columns if np.shape(column) != self.units.shape]:
            what = f"an array is {[*wrong[0]]}, but the units are {[*self.units.shape]}"
            raise FovealError("option.value", what, expected="a value for each unit, in the same order")

    def ratio(self, above: np.ndarray, below: np.ndarray) -> tuple[float, np.ndarray]:
        """sum(above) / sum(below), both [n], and its value in every resample [R]; nan if the denominator is 0."""
        columns = np.stack([above, below], axis=1).astype(float)
        total, drawn = columns.sum(0), self.sums(columns)
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(total[0] / total[1]), drawn[:, 0] / drawn[:, 1]

    def mean(self, values: np.ndarray, chosen: np.ndarray | None = None, *, is_share: bool = False) -> dict[str, Any]:
        """The entry (see `entry`) of the mean of values [n], one per image, or only of those `chosen` (bool [n]).

        is_share: values are 0 or 1, so the entry is a share; FovealError for others.
        """
        own = np.ones(len(values), bool) if chosen is None else chosen
        self._check(values, own)
        if is_share and not np.isin(np.asarray(values)[own], (0, 1)).all():
            raise FovealError("option.value", "is_share needs values that are 0 or 1", fix="leave out is_share")
        found = self.ratio(np.where(own, values, 0), own)
        return self.entry(*found, int(own.sum()), share_of=own if is_share else None)

    def interval(self, value: float, drawn: np.ndarray) -> tuple[float, float]:
        """The 95 % interval of a metric or difference from its resamples [R]: BCa, widened for few groups; or nan."""
        valid = ~np.isnan(drawn)
        groups, found = self.groups, drawn[valid]
        if math.isnan(value) or groups < 2 or valid.sum() < 0.9 * len(drawn) or not len(found):
            return math.nan, math.nan
        if np.ptp(found) <= EQUAL * max(1, abs(value)):  # as for a perfect grader, or two that are identical
            return math.nan, math.nan
        below = ((found < value).mean() + (found <= value).mean()) / 2
        bias = float(np.clip(norm.ppf(below), -MOST_BIAS, MOST_BIAS))
        shifted = bias + math.sqrt(groups / (groups - 1)) * student.ppf([0.025, 0.975], groups - 1)
        levels = norm.cdf(bias + shifted / np.maximum(1 - self._acceleration(found, valid) * shifted, 0.1))
        low, high = np.quantile(found, levels)
        return min(float(low), value), max(float(high), value)

    def _acceleration(self, found: np.ndarray, valid: np.ndarray) -> float:
        """One sixth of the skewness of the groups' influence: the covariance of their counts with the metric over its
        valid resamples (Efron and Narasimhan 2020)."""
        if len(self.weights) > MOST_SKEWED:
            return 0.0
        centred = np.zeros(len(valid), np.float32)
        centred[valid] = (found - found.mean()) / found.std()
        influence = (self.weights @ centred).astype(float) / len(found)
        return float(((influence - influence.mean()) ** 3).sum() / 6)

    def entry(self, value: float, drawn: np.ndarray, n: int, *, share_of: np.ndarray | None = None) -> dict[str, Any]:
        """A dictionary of one metric: value, low and high of its 95 % interval, n and noise; None if undefined.

        value: the metric of all n images, in its own unit; low, high and noise have the same unit.
        noise: the smallest difference between two graders that is not noise, if their errors are independent (de Vet et
        al. 2006); None if more than 10 % of the resamples have no value. Paired comparisons detect more.
        drawn: its resamples [R]. share_of: bool [n], the images in the denominator of a share. A share of 0 or 1 is the
        same in every resample, so its interval is the exact one (Clopper and Pearson 1934), counting each group as one
        case. Other metrics that are equal in all resamples have no interval and no noise; nor have single groups.
        """
        low, high = self.interval(value, drawn)
        spread = math.nan if math.isnan(low) else 1.96 * math.sqrt(2) * float(np.nanstd(drawn))
        if self.groups > 1 and share_of is not None and value in (0.0, 1.0):
            edge = 0.025 ** (1 / max(1, len(np.unique(self.units[share_of]))))
            low, high = (edge, 1.0) if value == 1 else (0.0, 1 - edge)
        found = {"value": float(value), "low": low, "high": high, "n": int(n), "noise": spread}
        return {key: None if isinstance(item, float) and math.isnan(item) else item for key, item in found.items()}
