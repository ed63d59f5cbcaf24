"""How far clusters agree with labels, with an interval that draws whole groups and the level that chance reaches.

Legend: k clusters, K classes, G groups, R resamples. A table [..., k, K] counts images by cluster and label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import linear_sum_assignment

from foveal.evaluate.intervals import draw_counts, percentile_interval

RESAMPLES = 1000
DEALS = 20  # random clusterings, of which chance is the mean
AT_ONCE = 100  # resamples: memory stays linear in the number of images


@dataclass(frozen=True, kw_only=True)
class Score:
    """A figure with its 95 % interval, the images and groups behind it, and two levels to beat.

    `chance` is the mean of clusters of the same sizes dealt out at random; `constant` is that of one single answer.
    """

    value: float
    low: float
    high: float
    n: int
    groups: int
    chance: float
    constant: float
    drawn: np.ndarray = field(repr=False)  # [R]; the same resamples for all scores of the same images

    def plain(self) -> dict[str, Any]:
        """What cluster.json holds."""
        names = ("value", "low", "high", "n", "groups", "chance", "constant")
        return {name: None if np.isnan(found := getattr(self, name)) else found for name in names}


def purity(table: np.ndarray) -> np.ndarray:
    """Share of images that have the commonest label of their cluster; grows with the number of clusters."""
    return table.max(-1).sum(-1) / table.sum((-2, -1))


def mutual_information(table: np.ndarray) -> np.ndarray:
    """Mutual information over the mean of both entropies, 0 to 1; 0 where there is one cluster and one label."""
    share = table / table.sum((-2, -1), keepdims=True)
    joint, clusters, labels = (_entropy(part) for part in (share.reshape(*share.shape[:-2], -1), share.sum(-1),
                                                           share.sum(-2)))  # fmt: skip
    mean = (clusters + labels) / 2
    return np.divide(clusters + labels - joint, mean, out=np.zeros_like(mean), where=mean > 0)


def rand_index(table: np.ndarray) -> np.ndarray:
    """Adjusted Rand index (Hubert & Arabie 1985): agreement on pairs of images beyond chance; 1 when perfect."""
    both, clusters, labels = (_pairs(part) for part in (table.reshape(*table.shape[:-2], -1), table.sum(-1),
                                                        table.sum(-2)))  # fmt: skip
    total = table.sum((-2, -1))
    expected = clusters * labels / (total * (total - 1) / 2)
    span = (clusters + labels) / 2 - expected
    return np.divide(both - expected, span, out=np.ones_like(span), where=span != 0)


def matched_accuracy(table: np.ndarray) -> np.ndarray:
    """Share of images with the label of their cluster, when each cluster gets at most one label, in the best way."""
    flat = table.reshape(-1, *table.shape[-2:])
    right = [one[linear_sum_assignment(one, maximize=True)].sum() / one.sum() for one in flat]
    return np.array(right).reshape(table.shape[:-2])


MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "accuracy": matched_accuracy,
    "purity": purity,
    "nmi": mutual_information,
    "ari": rand_index,
}


def score(clusters: np.ndarray, labels: np.ndarray, units: np.ndarray, seed: int) -> dict[str, Score]:
    """Every measure of int clusters [n] against int labels [n]; units: int [n], the group of each image.

    An image that is drawn twice agrees with itself, so that resamples lie above the figure that they belong to; the
    mean of this excess is taken off them.
    """
    clusters, labels, units = (np.unique(part, return_inverse=True)[1] for part in (clusters, labels, units))
    shape = (int(clusters.max()) + 1, int(labels.max()) + 1)
    total = _table(clusters, labels, shape)
    generator = np.random.default_rng(seed)
    drawn = np.concatenate(list(resampled(clusters * shape[1] + labels, units, shape[0] * shape[1], generator)))
    drawn = drawn.reshape(-1, *shape)
    deals = np.stack([_table(generator.permutation(clusters), labels, shape) for _ in range(DEALS)])
    counts = {"n": len(labels), "groups": int(units.max()) + 1}
    found = {}
    for name, measure in MEASURES.items():
        value = float(measure(total))
        resamples = _settled(measure(drawn), value, lowest=-1 if name == "ari" else 0)
        chance, constant = float(measure(deals).mean()), float(measure(total.sum(0, keepdims=True)))
        found[name] = make_score(value, resamples, chance=chance, constant=constant, **counts)
    return found


def _settled(drawn: np.ndarray, value: float, lowest: int) -> np.ndarray:
    return (drawn - (drawn.mean() - value)).clip(lowest, 1)


def make_score(
    value: float, drawn: np.ndarray, *, chance: float, constant: float, n: int, groups: int
) -> Score:  # fmt: skip
    """A score from its value and its resampled values."""
    low, high = percentile_interval(drawn)
    return Score(value=value, low=low, high=high, n=n, groups=groups, chance=chance, constant=constant, drawn=drawn)


def resampled(cells: np.ndarray, units: np.ndarray, size: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Counts of cells [r, size] in resamples of whole groups, a thousand in all; cells, units: int [n]."""
    groups = int(units.max()) + 1
    tables = sparse.csr_array((np.ones(len(cells)), (cells, units)), (size, groups))
    for _ in range(RESAMPLES // AT_ONCE):
        yield (tables @ draw_counts(groups, AT_ONCE, generator).T.astype(float)).T


def _table(clusters: np.ndarray, labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.bincount(clusters * shape[1] + labels, minlength=shape[0] * shape[1]).reshape(shape).astype(float)


def _entropy(share: np.ndarray) -> np.ndarray:
    return -(share * np.log(np.where(share > 0, share, 1))).sum(-1)


def _pairs(counts: np.ndarray) -> np.ndarray:
    return (counts * (counts - 1) / 2).sum(-1)
