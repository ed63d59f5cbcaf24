"""The analysis of one kind of features: clusters, neighbours, and scores of both.

Legend: k clusters, K classes, R resamples. A table [..., k, K] counts images by cluster and label.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from foveal import metrics
from foveal.cluster.features import SEED, Features, Images
from foveal.cluster.methods import Nearest, doubt, doubtful, gaussian_mixture, k_means, nearest, vote
from foveal.console import say
from foveal.evaluate.difference import difference
from foveal.evaluate.intervals import Resampling

FEWEST = 20  # labelled images; with fewer, nothing is scored
DEALS = 20  # random clusterings; their mean score is the level of chance


class Score(NamedTuple):
    """drawn: the values [R] in all resamples. entry: what cluster.json holds, that of `Resampling.entry` with groups,
    chance (the mean score of random clusters of the same sizes) and constant (the score of a single cluster)."""

    value: float
    drawn: np.ndarray
    entry: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Look:
    """The analysis of one kind of features.

    clusters: int [n], by k-means. voters: the nearest labelled images of other groups; voted: int [n], the label that
    they vote for; doubted: the table of `doubtful`. scores: "clusters", "mixture" (clusters by a Gaussian mixture) and
    "neighbours" (the votes) -> measure -> Score, empty for too few labels; resampling: of all scores, or None.
    """

    features: Features
    clusters: np.ndarray
    scores: dict[str, dict[str, Score]]
    near: Nearest
    voters: Nearest
    voted: np.ndarray
    doubted: pd.DataFrame
    resampling: Resampling | None

    def plain(self) -> dict[str, Any]:
        """The entry in cluster.json."""
        variance = self.features.components[1]
        scored = {of: {name: one.entry for name, one in scores.items()} for of, scores in self.scores.items()}
        return {"name": self.features.name, "source": self.features.source, "dimensions": self.features.values.shape[1],
                "components": len(variance), "variance": float(variance.sum()),
                "sizes": np.bincount(self.clusters).tolist(), **scored}  # fmt: skip


def look(features: Features, images: Images, judged: np.ndarray, clusters: int) -> Look:
    """Cluster the images, find their neighbours, and score both on the `judged` images (bool [n])."""
    directions, points, labels, units = features.directions, features.components[0], images.labels, images.units
    say(f"{features.name}: nearest images, and {clusters} clusters by k-means", "dim")
    found, voters = k_means(points, clusters), nearest(directions, units, labels >= 0)
    voted = vote(voters, labels, len(images.classes))
    scores: dict[str, dict[str, Score]] = {"clusters": {}, "mixture": {}, "neighbours": {}}
    resampling = None
    if not why_not(images, judged):
        rows = np.flatnonzero(judged)
        resampling = Resampling(np.unique(units[rows], return_inverse=True)[1], seed=SEED)
        scores["clusters"] = score(found[rows], labels[rows], resampling)
        scores["mixture"] = score(gaussian_mixture(points, clusters)[rows], labels[rows], resampling)
        scores["neighbours"] = judge(voted, images, rows, resampling)
    return Look(features=features, clusters=found, scores=scores, resampling=resampling, voters=voters, voted=voted,
                near=nearest(directions, units),
                doubted=doubtful(voted, doubt(voters, labels, ordered=images.ordered), images))  # fmt: skip


def why_not(images: Images, judged: np.ndarray) -> str:
    """Why nothing can be scored; empty if scoring is possible."""
    labels = images.labels[judged]
    if len(labels) < FEWEST:
        return f"{len(labels)} labelled images can be scored; {FEWEST} are needed"
    if len(np.unique(labels)) < 2:
        return "all labelled images that can be scored have the same class"
    if len(np.unique(images.units[judged])) < FEWEST:
        return f"the labelled images that can be scored come from fewer than {FEWEST} groups"
    return ""


def differences(looks: Sequence[Look]) -> list[dict[str, Any]]:
    """Features minus pixels in every score, on the same resamples: of (clusters or neighbours), measure, value, …."""
    if len(looks) < 2 or looks[0].resampling is None:
        return []
    features, pixels = (one.scores for one in looks)
    return [{"of": of, "measure": name} | difference(pixels[of][name][:2], one[:2], looks[0].resampling)
            for of, scores in features.items() for name, one in scores.items()]  # fmt: skip


def score(clusters: np.ndarray, labels: np.ndarray, resampling: Resampling) -> dict[str, Score]:
    """Every measure of int clusters [n] against int labels [n] of the images that `resampling` draws."""
    from sklearn.metrics.cluster import contingency_matrix as table_of

    clusters, labels = (np.unique(part, return_inverse=True)[1] for part in (clusters, labels))
    total, generator = table_of(clusters, labels), np.random.default_rng(SEED)
    drawn = resampling.counts(clusters * total.shape[1] + labels, total.size).reshape(-1, *total.shape)
    deals = np.stack([table_of(generator.permutation(clusters), labels) for _ in range(DEALS)])
    found = {}
    for name, measure in MEASURES.items():
        value, resamples = float(measure(total)), measure(drawn)
        # Images drawn twice agree with themselves, which biases resamples upwards: the mean bias is subtracted.
        settled = (resamples - (resamples.mean() - value)).clip(-1 if name == "ari" else 0, 1)
        chance, constant = float(measure(deals).mean()), float(measure(total.sum(0, keepdims=True)))
        found[name] = _score(name, value, settled, resampling, chance, constant)
    return found


def judge(voted: np.ndarray, images: Images, judged: np.ndarray, resampling: Resampling) -> dict[str, Score]:
    """Accuracy of the votes, and kappa for ordered grades, over the images at int positions [j] that are resampled."""
    labels, classes, has_vote = images.labels[judged], len(images.classes), voted[judged] >= 0
    labels, given, resampling = labels[has_vote], voted[judged][has_vote], resampling.part(has_vote)
    total = metrics.confusion_matrix(labels, given, classes)
    constant, chance = np.zeros_like(total), total.sum(1)[:, None] * total.sum(0) / total.sum()
    constant[:, total.sum(1).argmax()] = total.sum(1)
    kinds = {"quadratic kappa": metrics.quadratic_kappa} if images.ordered else {}
    found = {}
    for name, metric in {**kinds, "accuracy": metrics.accuracy}.items():
        value, drawn = resampling.graded(metric, labels, given, classes)
        found[name] = _score(name, value, drawn, resampling, float(metric(chance)), float(metric(constant)))
    return found


def _score(
    name: str, value: float, drawn: np.ndarray, resampling: Resampling, chance: float, constant: float
) -> Score:  # fmt: skip
    n = len(resampling.units)
    entry = resampling.entry(value, drawn, n, share_of=np.ones(n, bool) if name == "accuracy" else None)
    return Score(value, drawn, entry | {"groups": resampling.groups, "chance": chance, "constant": constant})


def matched_accuracy(table: np.ndarray) -> np.ndarray:
    """Share of images with the label of their cluster, when each cluster gets at most one label, in the best way."""
    flat = table.reshape(-1, *table.shape[-2:])
    right = [one[linear_sum_assignment(one, maximize=True)].sum() / one.sum() for one in flat]
    return np.array(right).reshape(table.shape[:-2])


def rand_index(table: np.ndarray) -> np.ndarray:
    """Adjusted Rand index (Hubert & Arabie 1985): agreement on pairs of images beyond chance; 1 when perfect."""
    both = _pairs(table.reshape(*table.shape[:-2], -1))
    clusters, labels = _pairs(table.sum(-1)), _pairs(table.sum(-2))
    expected = clusters * labels / _pairs(table.sum((-2, -1))[..., None])
    span = (clusters + labels) / 2 - expected
    return np.divide(both - expected, span, out=np.ones_like(span), where=span != 0)


def _pairs(counts: np.ndarray) -> np.ndarray:
    return (counts * (counts - 1) / 2).sum(-1)


MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"accuracy": matched_accuracy, "ari": rand_index}
