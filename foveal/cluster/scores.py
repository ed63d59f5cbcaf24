"""Agreement of clusters with labels, with an interval that resamples whole groups and the level of chance.

Legend: k clusters, K classes, R resamples. A table [..., k, K] counts images by cluster and label.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from foveal.evaluate.intervals import Resampling

DEALS = 20  # random clusterings; their mean score is the level of chance
SHARES = ("accuracy", "purity")  # measures that are shares of the images


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score and two baselines.

    entry: value, low, high, n and noise, as from `Resampling.entry`. chance: the mean score of random clusters of the
    same sizes. constant: the score of a single cluster. drawn: the values [R] in all resamples.
    """

    entry: dict[str, Any]
    groups: int
    chance: float
    constant: float
    drawn: np.ndarray = field(repr=False)

    @property
    def value(self) -> float:
        """The score."""
        return float(self.entry["value"])

    def plain(self) -> dict[str, Any]:
        """What cluster.json holds."""
        return {**self.entry, "groups": self.groups, "chance": self.chance, "constant": self.constant}


def purity(table: np.ndarray) -> np.ndarray:
    """Share of images that have the most common label of their cluster; grows with the number of clusters."""
    return table.max(-1).sum(-1) / table.sum((-2, -1))


def mutual_information(table: np.ndarray) -> np.ndarray:
    """Mutual information divided by the mean of both entropies, 0 to 1; 0 for one cluster and one label."""
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


def score(clusters: np.ndarray, labels: np.ndarray, resampling: Resampling, seed: int) -> dict[str, Score]:
    """Every measure of int clusters [n] against int labels [n], of the images that `resampling` draws.

    seed: for the random clusterings. Images drawn twice agree with themselves, which biases resamples upwards; the mean
    bias is subtracted.
    """
    clusters, labels = (np.unique(part, return_inverse=True)[1] for part in (clusters, labels))
    shape = (int(clusters.max()) + 1, int(labels.max()) + 1)
    total, generator = _table(clusters, labels, shape), np.random.default_rng(seed)
    drawn = resampling.counts(clusters * shape[1] + labels, shape[0] * shape[1]).reshape(-1, *shape)
    deals = np.stack([_table(generator.permutation(clusters), labels, shape) for _ in range(DEALS)])
    found = {}
    for name, measure in MEASURES.items():
        value, resamples = float(measure(total)), measure(drawn)
        settled = (resamples - (resamples.mean() - value)).clip(-1 if name == "ari" else 0, 1)
        chance, constant = float(measure(deals).mean()), float(measure(total.sum(0, keepdims=True)))
        found[name] = made(name, value, settled, resampling, chance, constant)
    return found


def made(
    name: str, value: float, drawn: np.ndarray, resampling: Resampling, chance: float, constant: float
) -> Score:  # fmt: skip
    """The score for a value with its resamples [R]."""
    n = len(resampling.units)
    entry = resampling.entry(value, drawn, n, share_of=np.ones(n, bool) if name in SHARES else None)
    return Score(entry=entry, groups=resampling.groups, chance=chance, constant=constant, drawn=drawn)


def _table(clusters: np.ndarray, labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return np.bincount(clusters * shape[1] + labels, minlength=shape[0] * shape[1]).reshape(shape).astype(float)


def _entropy(share: np.ndarray) -> np.ndarray:
    return -(share * np.log(np.where(share > 0, share, 1))).sum(-1)


def _pairs(counts: np.ndarray) -> np.ndarray:
    return (counts * (counts - 1) / 2).sum(-1)
